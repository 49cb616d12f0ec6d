"""Table 9's truncated corpora: the first N tokens of a corpus, repeated with fresh noise in every pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from data.errors import UserError
from data.sources import Opened, open_corpus
from data.specification import LanesSpec, Source
from data.vocabulary import Vocabulary


def truncate(
    spec: LanesSpec,
    tokens: int,
    vocabulary: Vocabulary | None = None,
    open_corpus: Callable[[str], Any] = open_corpus,
) -> LanesSpec:
    """The same specification with each unsupervised source kept to the first `tokens` tokens of its corpus.

    Tokens are counted in the order of the shards: once, where a run is planned, at the cost of tokenizing them.
    Shards whose token count the index holds are not read. Raises UserError where the corpus has fewer tokens.
    """
    if tokens < 1:
        raise UserError(f"objective.first_tokens={tokens} keeps nothing; keep at least one token")
    opened = Opened(spec, {}, vocabulary, open_corpus)
    return replace(
        spec,
        sources=tuple(
            source if source.objective is None else replace(source, limit=_limit(opened, source, tokens))
            for source in spec.sources
        ),
    )


def _limit(opened: Opened, source: Source, tokens: int) -> tuple[int, int]:
    """(blocks, tokens of the last one) that hold the first `tokens` tokens of a source."""
    key = (opened.spec.seed, source.name, source.split)
    plan = opened.plan(source, opened.spec.lanes, key, endless=False)
    documents = opened.documents(source, key, endless=False)
    known = opened.tokens_by_shard(source)
    missing, number = tokens, 0
    while number < plan.blocks:
        shard = plan.block(number).shard
        whole = known[shard]
        if whole is not None and whole < missing and plan.first_block(shard) == number:
            missing -= whole
            number = plan.first_block(shard + 1)
            continue
        found = len(documents.read(plan, number)[0].tokens)
        number += 1
        if found >= missing:
            return number, missing
        missing -= found
    raise UserError(
        f"{source.corpus} holds {tokens - missing} tokens, but objective.first_tokens asks for {tokens}; "
        "lower it or take a larger corpus"
    )
