"""GLUE's tab-separated files, as the benchmark publishes them, and CoLA's own public release."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from data.naming import unknown
from data.tasks.files import Row
from data.tasks.published.rows import Splits, existing, lines_of

TRAIN, VALIDATION, TEST = ("train.tsv",), ("dev.tsv",), ("test.tsv",)


@dataclass(frozen=True)
class Layout:
    """Where a task's fields stand: `fields` maps ours to a published column's possible names.

    `files` gives the possible file names of each split, `bare` the columns of files without a heading.
    """

    folder: str
    fields: Mapping[str, tuple[str, ...]]
    files: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    )
    bare: tuple[str, ...] = ()


_PAIR = {"sentence1": ("sentence1",), "sentence2": ("sentence2",)}
_MNLI = {"premise": ("sentence1",), "hypothesis": ("sentence2",), "label": ("gold_label", "label")}
LAYOUTS: dict[str, Layout] = {
    "glue_cola": Layout(
        "CoLA",
        {"sentence": ("sentence",), "label": ("label",)},
        {
            "train": ("train.tsv", "in_domain_train.tsv"),
            "validation": VALIDATION,
            "in_domain": ("in_domain_dev.tsv",),
            "out_of_domain": ("out_of_domain_dev.tsv",),
            "test": TEST,
        },
        bare=("source", "label", "mark", "sentence"),
    ),
    "glue_sst2": Layout("SST-2", {"sentence": ("sentence",), "label": ("label",)}),
    "glue_mrpc": Layout(
        "MRPC",
        {"sentence1": ("#1 String",), "sentence2": ("#2 String",), "label": ("Quality",)},
        {
            "train": TRAIN,
            "validation": VALIDATION,
            "test": (*TEST, "msr_paraphrase_test.txt"),
        },
    ),
    "glue_stsb": Layout("STS-B", {**_PAIR, "label": ("score",)}),
    "glue_qqp": Layout("QQP", {"question1": ("question1",), "question2": ("question2",), "label": ("is_duplicate",)}),
    "glue_mnli": Layout(
        "MNLI",
        _MNLI,
        {"train": TRAIN, "validation": ("dev_matched.tsv",), "test": ("test_matched.tsv",)},
    ),
    "glue_mnli_mismatched": Layout(
        "MNLI", _MNLI, {"validation": ("dev_mismatched.tsv",), "test": ("test_mismatched.tsv",)}
    ),
    "glue_qnli": Layout("QNLI", {"question": ("question",), "sentence": ("sentence",), "label": ("label",)}),
    "glue_rte": Layout("RTE", {**_PAIR, "label": ("label",)}),
    "glue_wnli": Layout("WNLI", {**_PAIR, "label": ("label",)}),
    "glue_ax": Layout("AX", _MNLI, {"test": ("AX.tsv", "diagnostic.tsv", "test.tsv")}),
}


def splits_of(task: str, folder: Path) -> Splits:
    """Readers of the splits of a GLUE task in `folder`, or in the task's own folder within."""
    layout = LAYOUTS[task]
    inner = folder / layout.folder
    files = existing(inner if inner.is_dir() else folder, layout.files)
    if task == "glue_cola" and "validation" not in files:
        # The public release names its two development sets by domain; GLUE's is both in this order.
        parts = [files.pop(name) for name in ("in_domain", "out_of_domain") if name in files]
        readers = {split: partial(rows, layout, [path]) for split, path in files.items()}
        return {**readers, "validation": partial(rows, layout, parts)} if parts else readers
    return {split: partial(rows, layout, [path]) for split, path in files.items() if "domain" not in split}


def rows(layout: Layout, paths: list[Path]) -> Iterator[Row]:
    """The rows of one split; a line with too few or too many columns is a problem, as some of QQP's are.

    `idx` counts the rows of the split as published, which is what the test server's `index` means.
    """
    number = 0
    for path in paths:
        lines = lines_of(path)
        names = layout.bare
        if not names or path.name == "test.tsv":
            names = tuple(next(lines, "").split("\t"))
        places = {ours: _place(ours, theirs, names, path) for ours, theirs in layout.fields.items()}
        start = 1 if names == layout.bare else 2
        for line_number, line in enumerate(lines, start):
            where = f"{path}, line {line_number}"
            values = line.split("\t")
            if len(values) != len(names):
                yield Row(where, problem=f"it has {len(values)} columns, not {len(names)}")
            else:
                record = {ours: values[place] for ours, place in places.items() if place is not None}
                yield Row(where, {**record, "idx": number})
            number += 1


def _place(ours: str, theirs: tuple[str, ...], names: tuple[str, ...], path: Path) -> int | None:
    """The column of a field; only the label may be absent, as in test files."""
    for name in theirs:
        if name in names:
            return names.index(name)
    if ours == "label":
        return None
    raise unknown("column", theirs[0], names, where=str(path))
