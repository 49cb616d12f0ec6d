"""Outputs at rest: a line of JSON an example with what the model wrote; results can be made of them at any time."""

from __future__ import annotations

import json
from collections.abc import Iterable

from data.errors import UserError
from data.tasks.example import Example
from data.tasks.files import rows_of


def line(example: Example, output: str) -> str:
    """The line, its end included, that keeps `example` with the model's `output`."""
    return json.dumps({**example.to_json(), "output": output}, ensure_ascii=False) + "\n"


def read(place: str) -> tuple[list[Example], list[str]]:
    """Examples and outputs of the JSON lines at `place` (disk or S3), each example once.

    Raises UserError for a line that is no output, and for an example that comes with two different outputs.
    """
    return collected((row.where, row.record) for row in rows_of(place))


def collected(rows: Iterable[tuple[str, dict[str, object] | None]]) -> tuple[list[Example], list[str]]:
    """Examples and outputs of parsed lines with their places; a line that repeats another is passed over."""
    examples: list[Example] = []
    outputs: list[str] = []
    places: dict[str, int] = {}
    for where, record in rows:
        if record is None or not {"inputs", "targets", "output"} <= record.keys():
            raise UserError(f"{where} is no output: it needs the fields inputs, targets and output.")
        example, output = Example.from_json(record), str(record["output"])
        place = places.setdefault(example.id, len(examples)) if example.id else len(examples)
        if place == len(examples):
            examples.append(example)
            outputs.append(output)
        elif outputs[place] != output:
            raise UserError(f"{where} has another output for example {example.id!r} than before: keep one of the two.")
    return examples, outputs
