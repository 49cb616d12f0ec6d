"""Near-duplicates between the corpus and a benchmark's test set that the user names.

Both sides are cut into overlapping runs of eight words (case and punctuation aside). A test example is reported with a
document that holds at least 80 % of the example's runs. Shorter examples are not compared, and counted.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

RUN = 8
SHARE = 0.8
_WORD = re.compile(r"\w+")


def word_runs(text: str) -> Iterator[int]:
    """64-bit hashes of the text's runs of eight words; none where there are fewer words."""
    words = _WORD.findall(text.lower())
    for start in range(len(words) - RUN + 1):
        run = " ".join(words[start : start + RUN])
        yield int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "little")


class Benchmark:
    """A test set as an index from runs of words to the numbers of the examples that hold them."""

    def __init__(self, examples: Sequence[str]) -> None:
        self.examples = list(examples)
        self.sizes: list[int] = []
        self.index: dict[int, list[int]] = {}
        for number, text in enumerate(self.examples):
            runs = set(word_runs(text))
            self.sizes.append(len(runs))
            for run in runs:
                self.index.setdefault(run, []).append(number)

    @property
    def too_short(self) -> int:
        """Number of examples of fewer than eight words."""
        return self.sizes.count(0)

    def matches(self, url: str, text: str) -> list[list[Any]]:
        """[example number, url, share of the example's runs] for each example that the document nearly holds."""
        shared: Counter[int] = Counter()
        for run in set(word_runs(text)):
            shared.update(self.index.get(run, ()))
        return [
            [number, url, round(count / self.sizes[number], 3)]
            for number, count in sorted(shared.items())
            if count >= SHARE * self.sizes[number]
        ]

    def fingerprint(self) -> str:
        """SHA-256 of the examples."""
        return hashlib.sha256("\0".join(self.examples).encode()).hexdigest()


def found_examples(matches: Iterable[Sequence[Any]]) -> dict[int, list[Sequence[Any]]]:
    """The matches by example number."""
    found: dict[int, list[Sequence[Any]]] = {}
    for match in matches:
        found.setdefault(match[0], []).append(match)
    return dict(sorted(found.items()))
