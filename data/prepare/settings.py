"""What decides the text of a prepared corpus: the variants of the paper's Table 8 and every constant of their rules."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from data.errors import UserError

# Raised when a rule or the way of the text through the stages changes, so that old and new corpora tell apart.
PIPELINE_VERSION = 1

FORMATS = ("auto", "text", "lines", "jsonl", "warc")
DUPLICATES = ("windows", "lines")


@dataclass(frozen=True)
class Settings:
    """One preparation's settings; the defaults are C4 as the paper used it (release 1.0.0 of the public code).

    Lengths are in characters, `piece_bytes`, `part_bytes` and `shard_bytes` in bytes, shares in 0 … 1. None switches a
    rule off. `lists` holds the fingerprints of the user's lists of domains, URLs and bad words, which travel apart.
    """

    variant: str = "c4"
    format: str = "auto"
    text_field: str = "text"
    url_field: str = "url"
    longest_page: int | None = 190_000
    clean_lines: bool = True
    end_marks: bool = True
    longest_word: int | None = 1_000
    fewest_words: int = 5
    fewest_sentences: int = 3
    duplicates: tuple[str, ...] = ("windows",)
    language: str | None = "en"
    language_probability: float = 0.99
    validation_share: float | None = None
    kind: str = "text"
    vocabulary_size: int = 32_000
    extra_ids: int = 100
    vocabulary_sample: int = 100_000_000
    partition_bytes: int = 512 << 20
    longest_record: int = 16 << 20
    bad_share: float = 0.01
    piece_bytes: int = 64 << 20
    part_bytes: int = 16 << 20
    shard_bytes: int = 128 << 20
    lists: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of("format", self.format, FORMATS)
        _one_of("kind", self.kind, ("text", "ids"))
        for name in self.duplicates:
            _one_of("duplicates", name, DUPLICATES)
        if self.validation_share is not None and not 0 <= self.validation_share < 1:
            raise UserError(f"validation share {self.validation_share} is not in 0 … 1; the paper's is 0.001")
        if self.validation_share and self.validation_share < 0.001:
            raise UserError(f"validation share {self.validation_share} is below 0.001, the finest that the split knows")
        if not 0 <= self.bad_share <= 1:
            raise UserError(f"share of bad records {self.bad_share} is not in 0 … 1; the usual one is 0.01")
        for name in ("piece_bytes", "part_bytes", "shard_bytes", "longest_record", "vocabulary_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")

    def as_json(self) -> dict[str, Any]:
        """The settings as plain data."""
        return {**dataclasses.asdict(self), "duplicates": list(self.duplicates)}

    def fingerprint(self) -> str:
        """SHA-256 of the settings and the pipeline's version: what the index calls its pipeline."""
        content = json.dumps({"pipeline": PIPELINE_VERSION, **self.as_json()}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


# What each variant of Table 8 changes. Lists of domains and of URLs make the RealNews-like and the WebText-like one.
VARIANTS: dict[str, dict[str, Any]] = {
    "c4": {},
    "unfiltered": {"clean_lines": False, "fewest_sentences": 0, "duplicates": ()},
    "realnews": {},
    "webtext": {},
    "plain": {
        "clean_lines": False,
        "fewest_sentences": 0,
        "duplicates": (),
        "language": None,
        "longest_page": None,
    },
}


def variant_settings(variant: str, **changes: Any) -> Settings:
    """The settings of a variant with `changes` on top; UserError where the variant is unknown."""
    _one_of("variant", variant, tuple(VARIANTS))
    return Settings(**{"variant": variant, **VARIANTS[variant], **changes})


def automatic_validation_share(input_bytes: int) -> float:
    """The held-out share for an input of this size: the paper's 1/1000 needs a corpus of which 1/1000 is enough."""
    if input_bytes < 64 << 20:
        return 0.05
    return 0.01 if input_bytes < 2 << 30 else 0.001


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{name} {value!r} is unknown; choose one of {', '.join(allowed)}")
