"""The two shapes data has on its way to a model: a record of raw fields, and a text-to-text example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Record = dict[str, Any]

UNLABELED = "<unk>"
"""Target text of a record that carries no label (test splits)."""


@dataclass(frozen=True)
class Example:
    """One text-to-text example.

    `id` names it within its task and split, `group` gathers examples that one metric judges together (the answers
    of one question), `answers` lists every acceptable output, and `truth` is the class that the metrics compare with
    where the target text does not tell it (0, 1, or -1 for unlabeled).
    """

    inputs: str
    targets: str
    id: str = ""
    group: str = ""
    answers: tuple[str, ...] = ()
    truth: int | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Example:
        """The example that a chain of preprocessors left in `record`; fields of other names are let go."""
        return cls(
            inputs=str(record["inputs"]),
            targets=str(record["targets"]),
            id=str(record.get("id", "")),
            group=str(record.get("group", "")),
            answers=_texts(record.get("answers")),
            truth=record.get("truth"),
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Example:
        """The example that `to_json` gave `content`; other fields are let go."""
        return cls.of(content)

    def to_json(self) -> dict[str, Any]:
        """Plain data for one line of JSON."""
        return {**asdict(self), "answers": list(self.answers)}


def _texts(answers: Any) -> tuple[str, ...]:
    if answers is None:
        return ()
    return tuple(str(answer) for answer in (answers if isinstance(answers, list | tuple) else [answers]))
