"""The language of a page by langdetect, as C4 asked it: fixed seed, the top guess, a least probability."""

from __future__ import annotations

from functools import cache
from typing import Any

from data.errors import UserError

_SEED = 0


@cache
def _detector() -> Any:
    try:
        import langdetect
    except ImportError as error:
        raise UserError(
            "the language filter needs the package langdetect: pip install 't5-orchestrator[prepare]', "
            "or switch the filter off with --language none"
        ) from error
    langdetect.DetectorFactory.seed = _SEED
    return langdetect


def guess_language(text: str) -> tuple[str, float] | None:
    """The most probable language's ISO 639-1 code and its probability; None where there is nothing to go by."""
    langdetect = _detector()
    try:
        guesses = langdetect.detect_langs(text)
    except langdetect.LangDetectException:
        return None
    return (guesses[0].lang, guesses[0].prob) if guesses else None


def is_language(text: str, language: str, probability: float) -> bool:
    """Whether the top guess is `language` with at least `probability` (C4: "en", 0.99)."""
    guess = guess_language(text)
    return guess is not None and guess[0] == language and guess[1] >= probability
