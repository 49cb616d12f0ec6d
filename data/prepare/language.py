"""The language of a page by langdetect, as C4 asked it: fixed seed, the top guess, a least probability."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from data.errors import UserError

if TYPE_CHECKING:
    from data.prepare.detector import FastDetectors


@cache
def _detectors() -> FastDetectors:
    try:
        from data.prepare.detector import FastDetectors
    except ImportError as error:
        raise UserError(
            "the language filter needs the package langdetect: pip install 't5-orchestrator[prepare]', "
            "or switch the filter off with --language none"
        ) from error
    return FastDetectors()


def guess_language(text: str) -> tuple[str, float] | None:
    """The most probable language's ISO 639-1 code and its probability; None where there is nothing to go by."""
    detectors = _detectors()
    from langdetect import LangDetectException

    try:
        guesses = detectors.guesses(text)
    except LangDetectException:
        return None
    return guesses[0] if guesses else None
