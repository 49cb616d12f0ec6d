"""What each rule took: counts and a few examples, summed in the order of the pieces, so every run reports the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

EXAMPLES = 5
_EXCERPT = 300


class Tally:
    """Counts of pages and lines by rule, counts of anything else by name, and the first examples of each rule."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.pages: Counter[str] = Counter()
        self.lines: Counter[str] = Counter()
        self.edits: Counter[str] = Counter()
        self.examples: dict[str, list[list[str]]] = {}

    def drop_page(self, rule: str, url: str, text: str) -> None:
        """Count a page that `rule` dropped."""
        self.pages[rule] += 1
        self._keep(rule, url, text)

    def drop_line(self, rule: str, url: str, line: str) -> None:
        """Count a line that `rule` dropped."""
        self.lines[rule] += 1
        self._keep(rule, url, line)

    def edit_line(self, rule: str, line: str) -> None:
        """Count a line that `rule` changed."""
        self.edits[rule] += 1
        self._keep(rule, "", line)

    def add(self, other: Tally) -> None:
        """Add another tally's counts; the earlier examples stay."""
        for mine, its in (
            (self.counts, other.counts),
            (self.pages, other.pages),
            (self.lines, other.lines),
            (self.edits, other.edits),
        ):
            mine.update(its)
        for rule, examples in other.examples.items():
            known = self.examples.setdefault(rule, [])
            known.extend(examples[: EXAMPLES - len(known)])

    def as_json(self) -> dict[str, Any]:
        """The tally as plain data, in a fixed order."""
        return {
            "counts": dict(sorted(self.counts.items())),
            "pages": dict(sorted(self.pages.items())),
            "lines": dict(sorted(self.lines.items())),
            "edits": dict(sorted(self.edits.items())),
            "examples": dict(sorted(self.examples.items())),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Tally:
        """The tally that :meth:`as_json` wrote."""
        tally = cls()
        tally.counts.update(content["counts"])
        tally.pages.update(content["pages"])
        tally.lines.update(content["lines"])
        tally.edits.update(content["edits"])
        tally.examples = {rule: list(examples) for rule, examples in content["examples"].items()}
        return tally

    def _keep(self, rule: str, url: str, text: str) -> None:
        known = self.examples.setdefault(rule, [])
        if len(known) < EXAMPLES:
            known.append([url, text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"])
