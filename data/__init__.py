"""From raw text to rows of token ids: storage, corpora, objectives, tasks, mixing. No torch; Ray in `prepare` only."""
