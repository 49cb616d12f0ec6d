"""What a person sees: the progress line, the summary, pictures of curves."""
