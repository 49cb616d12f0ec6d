"""SuperGLUE's JSON lines in its own format, and the text files of DPR."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from data.tasks.example import Record
from data.tasks.files import Row, json_row
from data.tasks.published.rows import Splits, existing, lines_of
from data.tasks.superglue import queries_apart, questions_apart

FOLDERS = {
    "superglue_boolq": "BoolQ",
    "superglue_cb": "CB",
    "superglue_copa": "COPA",
    "superglue_multirc": "MultiRC",
    "superglue_record": "ReCoRD",
    "superglue_rte": "RTE",
    "superglue_wic": "WiC",
    "superglue_wsc": "WSC",
    "superglue_axb": "AX-b",
    "superglue_axg": "AX-g",
}
DPR_FILES = {"train": ("train.c.txt",), "test": ("test.c.txt",)}
_APART: dict[str, Callable[[Record], Iterable[Record]]] = {
    "superglue_multirc": questions_apart,
    "superglue_record": queries_apart,
}


def splits_of(task: str, folder: Path) -> Splits:
    """Readers of the splits of a SuperGLUE task: `train.jsonl` in the task's folder, or `NAME.train.jsonl`."""
    if task == "superglue_dpr":
        inner = folder / "DPR"
        files = existing(inner if inner.is_dir() else folder, DPR_FILES)
        return {split: partial(pronoun_rows, path) for split, path in files.items()}
    name = FOLDERS[task]
    inner = folder / name
    wanted = {
        split: (f"{file}.jsonl", f"{name}.{file}.jsonl", f"{name}.jsonl" if split == "test" else f"{file}.jsonl")
        for split, file in (("train", "train"), ("validation", "val"), ("test", "test"))
    }
    files = existing(inner if inner.is_dir() else folder, wanted)
    return {split: partial(json_rows, path, _APART.get(task)) for split, path in files.items()}


def json_rows(path: Path, apart: Callable[[Record], Iterable[Record]] | None) -> Iterator[Row]:
    """The rows of one file of JSON lines, nested records taken apart into one row an answer or query."""
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        row = json_row(line, f"{path}, line {number}")
        if apart is None or row.record is None:
            yield row
            continue
        try:
            parts = list(apart(row.record))
        except (KeyError, TypeError) as error:
            yield Row(row.where, problem=f"it is not a record of this task ({error!r})")
            continue
        yield from (Row(row.where, part) for part in parts)


def pronoun_rows(path: Path) -> Iterator[Row]:
    """DPR's records: sentence, pronoun, two candidates with a comma between, the right one, an empty line."""
    entry: list[str] = []
    number, count = 0, 0
    for number, line in enumerate(lines_of(path), 1):
        if line.strip():
            entry.append(line.strip())
            continue
        if entry:
            yield _pronoun_row(f"{path}, line {number - len(entry)}", entry, count)
            entry, count = [], count + 1
    if entry:
        yield _pronoun_row(f"{path}, line {number - len(entry) + 1}", entry, count)


def _pronoun_row(where: str, entry: list[str], count: int) -> Row:
    if len(entry) != 4:
        return Row(where, problem=f"it has {len(entry)} lines, not the four of a record")
    sentence, pronoun, both, right = entry
    candidates = [candidate.strip() for candidate in both.split(",")]
    if right not in candidates:
        return Row(where, problem=f"{right!r} is none of the candidates {both!r}")
    label = candidates.index(right)
    return Row(
        where,
        {"sentence": sentence, "pronoun": pronoun, "candidates": candidates, "label": label, "idx": count},
    )
