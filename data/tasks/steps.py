"""Preprocessors that several tasks share; each is a small value, so a task can travel to another process."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from data.errors import UserError
from data.tasks.example import UNLABELED, Record

Preprocessor = TypeVar("Preprocessor", bound=Callable[[Record], Any])


def one_to_one(step: Preprocessor) -> Preprocessor:
    """Marks a function as making one record of each, so that a task's size is its number of records."""
    step.one_to_one = True  # type: ignore[attr-defined]
    return step


@dataclass(frozen=True)
class Fields:
    """`PREFIX name1: VALUE1 name2: VALUE2 …` with single spaces, the fields in the order given (facts 5.1).

    `rename` maps a printed name to the record's own where the two differ (AXb's sentence1 printed as premise).
    """

    prefix: str
    names: tuple[str, ...]
    rename: Mapping[str, str] = field(default_factory=dict)
    one_to_one: ClassVar[bool] = True

    def __call__(self, record: Record) -> Record:
        parts = [self.prefix]
        for name in self.names:
            parts += [f"{name}:", str(record[self.rename.get(name, name)])]
        return {**record, "inputs": " ".join(parts)}


@dataclass(frozen=True)
class LabelWord:
    """The target is the label's word; -1 or no label gives `<unk>`, a label outside the list is refused.

    A label may be a class id, a word, a truth value, or one of these written as text.
    """

    words: tuple[str, ...]
    label: str = "label"
    one_to_one: ClassVar[bool] = True

    def __call__(self, record: Record) -> Record:
        return {**record, "targets": self.word(record.get(self.label))}

    def word(self, label: Any) -> str:
        """The label word of `label`."""
        if label is None or label == "":
            return UNLABELED
        spelled = str(label)
        if spelled in self.words:
            return spelled
        if isinstance(label, bool) or spelled.lower() in ("false", "true"):
            label = spelled.lower() == "true"
        try:
            number = float(label)
        except ValueError:
            number = math.nan
        if number == -1:
            return UNLABELED
        if number not in range(len(self.words)):
            ids = f"0 to {len(self.words) - 1}"
            raise UserError(f"label {label!r} is neither one of {', '.join(self.words)} nor a class id of {ids}.")
        return self.words[int(number)]


@dataclass(frozen=True)
class Template:
    """Fills `{name}` marks of `inputs` and `targets` with the record's fields; nothing else in braces is read."""

    inputs: str
    targets: str | None = None
    one_to_one: ClassVar[bool] = True

    def __call__(self, record: Record) -> Record:
        filled = {**record, "inputs": fill(self.inputs, record)}
        if self.targets is not None:
            filled["targets"] = fill(self.targets, record)
        return filled


def fill(template: str, record: Record) -> str:
    """`template` with each `{name}` replaced by the record's field (KeyError where there is none)."""
    return re.sub(r"\{(\w+)\}", lambda mark: str(record[mark.group(1)]), template)


@dataclass(frozen=True)
class Identified:
    """Gives the example its id from the record's fields, joined by "-" (the published `idx` or `index`)."""

    names: tuple[str, ...] = ("idx",)
    one_to_one: ClassVar[bool] = True

    def __call__(self, record: Record) -> Record:
        present = [str(record[name]) for name in self.names if name in record]
        return {**record, "id": "-".join(present)} if present else record


@dataclass(frozen=True)
class Rename:
    """Gives fields further names: `names` maps the new one to the record's own."""

    names: Mapping[str, str]
    one_to_one: ClassVar[bool] = True

    def __call__(self, record: Record) -> Record:
        return {**record, **{new: record[old] for new, old in self.names.items()}}
