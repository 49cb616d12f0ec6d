"""Files for the GLUE and SuperGLUE test servers, made from a model's outputs on the test splits (facts 5.6)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from data.errors import UserError
from data.naming import unknown
from data.storage import open_storage
from data.tasks.example import Example
from data.tasks.outcomes import INVALID, Labels
from data.tasks.task import Task

Style = Literal["id", "word", "truth", "number", "text"]

GLUE: dict[str, tuple[str, Style]] = {
    "glue_cola": ("CoLA.tsv", "id"),
    "glue_sst2": ("SST-2.tsv", "id"),
    "glue_mrpc": ("MRPC.tsv", "id"),
    "glue_stsb": ("STS-B.tsv", "number"),
    "glue_qqp": ("QQP.tsv", "id"),
    "glue_mnli": ("MNLI-m.tsv", "word"),
    "glue_mnli_mismatched": ("MNLI-mm.tsv", "word"),
    "glue_qnli": ("QNLI.tsv", "word"),
    "glue_rte": ("RTE.tsv", "word"),
    "glue_wnli": ("WNLI.tsv", "id"),
    "glue_ax": ("AX.tsv", "word"),
}
SUPERGLUE: dict[str, tuple[str, Style]] = {
    "superglue_boolq": ("BoolQ.jsonl", "truth"),
    "superglue_cb": ("CB.jsonl", "word"),
    "superglue_copa": ("COPA.jsonl", "id"),
    "superglue_multirc": ("MultiRC.jsonl", "truth"),
    "superglue_record": ("ReCoRD.jsonl", "text"),
    "superglue_rte": ("RTE.jsonl", "word"),
    "superglue_wic": ("WiC.jsonl", "truth"),
    "superglue_wsc": ("WSC.jsonl", "truth"),
    "superglue_axb": ("AX-b.jsonl", "word"),
    "superglue_axg": ("AX-g.jsonl", "word"),
}
BENCHMARKS = {"glue": GLUE, "superglue": SUPERGLUE}


@dataclass(frozen=True)
class Submission:
    """What was written: file names, outputs that could not be read by task, and tasks the benchmark still lacks."""

    files: tuple[str, ...]
    invalid: dict[str, int]
    missing: tuple[str, ...]


Outputs = Mapping[str, tuple[Task, Sequence[Example], Sequence[str]]]
"""Task, examples of its test split and the model's outputs for them, by task name."""


def write_submission(benchmark: str, outputs: Outputs, folder: str) -> Submission:
    """Write one file a task into `folder` (disk or S3), named as the server wants them.

    A server takes no invalid answer, so an output outside the labels is sent as the first class and counted.
    """
    if benchmark not in BENCHMARKS:
        raise unknown("benchmark", benchmark, BENCHMARKS)
    known = BENCHMARKS[benchmark]
    storage = open_storage(folder)
    files, invalid = [], {}
    for name, (task, examples, texts) in outputs.items():
        if name not in known:
            raise unknown("task", name, known, where=f"the {benchmark} submission")
        if len(examples) != len(texts):
            raise UserError(f"Task {name!r}: {len(texts)} outputs for {len(examples)} examples.")
        file, style = known[name]
        values = [task.outcome.prediction(text, example) for text, example in zip(texts, examples, strict=True)]
        invalid[name] = sum(value == INVALID for value in values)
        shown = [_shown(value, style, task) for value in values]
        write = _tsv if benchmark == "glue" else _multirc if name == "superglue_multirc" else _json_lines
        storage.write(file, write([example.id for example in examples], shown).encode())
        files.append(file)
    return Submission(tuple(files), invalid, tuple(name for name in known if name not in outputs))


def _shown(value: Any, style: Style, task: Task) -> Any:
    if style == "text":
        return value
    if style == "number":
        return min(max(float(value), 0.0), 5.0)
    answer = max(int(value), 0)
    if style == "truth":
        return bool(answer)
    return task.outcome.words[answer] if style == "word" and isinstance(task.outcome, Labels) else answer


def _tsv(ids: Sequence[str], values: Sequence[Any]) -> str:
    return "index\tprediction\n" + "".join(f"{id}\t{value}\n" for id, value in zip(ids, values, strict=True))


def _json_lines(ids: Sequence[str], values: Sequence[Any]) -> str:
    """The record's own number is the last part of the id (ReCoRD's query)."""
    lines = ({"idx": _number(id.rpartition("-")[2]), "label": value} for id, value in zip(ids, values, strict=True))
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _multirc(ids: Sequence[str], values: Sequence[Any]) -> str:
    """One line a paragraph, with its questions and their answers nested as they were published."""
    paragraphs: dict[int, dict[int, list[dict[str, Any]]]] = {}
    for id, value in zip(ids, values, strict=True):
        paragraph, question, answer = (_number(part) for part in id.split("-"))
        paragraphs.setdefault(paragraph, {}).setdefault(question, []).append({"idx": answer, "label": value})
    lines = (
        {
            "idx": paragraph,
            "passage": {"questions": [{"idx": number, "answers": answers} for number, answers in questions.items()]},
        }
        for paragraph, questions in paragraphs.items()
    )
    return "".join(json.dumps(line) + "\n" for line in lines)


def _number(text: str) -> int:
    if not text.isdigit():
        raise UserError(f"Example id {text!r} is not the number that the server asks for: import the published files.")
    return int(text)
