"""How a model's output text, and the truth it is compared with, become values that metrics can judge.

An output that cannot be read is wrong, never an error: it becomes -1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from data.errors import UserError
from data.tasks.example import Example

INVALID = -1


class Outcome(Protocol):
    """Reads both sides of a comparison."""

    def prediction(self, output: str, example: Example) -> Any: ...

    def reference(self, example: Example) -> Any: ...


@dataclass(frozen=True)
class Labels:
    """Class ids by exact match with the label words; anything else is -1 (facts 5.1)."""

    words: tuple[str, ...]

    def prediction(self, output: str, example: Example) -> int:
        return self.words.index(output) if output in self.words else INVALID

    def reference(self, example: Example) -> int:
        if example.targets not in self.words:
            raise UserError(
                f"Example {example.id!r} has the target {example.targets!r}, which is none of the labels "
                f"{', '.join(self.words)}: evaluate a split that is labeled."
            )
        return self.words.index(example.targets)


@dataclass(frozen=True)
class Number:
    """The output as a finite number, -1.0 where it is none (STS-B)."""

    def prediction(self, output: str, example: Example) -> float:
        try:
            value = float(output)
        except ValueError:
            return float(INVALID)
        return value if math.isfinite(value) else float(INVALID)

    def reference(self, example: Example) -> float:
        return float(example.targets)


@dataclass(frozen=True)
class Text:
    """The texts as they are: the output, and the target."""

    def prediction(self, output: str, example: Example) -> str:
        return output

    def reference(self, example: Example) -> str:
        return example.targets


@dataclass(frozen=True)
class Answers(Text):
    """The output as it is against every acceptable answer."""

    def reference(self, example: Example) -> tuple[str, ...]:  # type: ignore[override]
        return example.answers or (example.targets,)


text = Text()
