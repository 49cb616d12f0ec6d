"""Import: a task's files become an examples corpus, each record tried on the task's format first."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from data.corpus import CorpusIndex, Shard, ShardWriter
from data.errors import BudgetExceeded, UserError
from data.storage import Storage, open_storage
from data.tasks.files import Row
from data.tasks.published import Splits, published_names, splits_of
from data.tasks.sources import FileSource
from data.tasks.task import Task

PIPELINE = "task files, 1"
SHARD_BYTES = 64 << 20
SHOWN_PROBLEMS = 5


@dataclass
class Imported:
    """What an import did to one split: records written, examples they make, and rows left out with their places."""

    records: int = 0
    examples: int = 0
    skipped: int = 0
    problems: list[str] = field(default_factory=list)


def import_task(
    task: Task,
    folder: str | Path | None,
    destination: str,
    *,
    bad_records: int = 100,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[str, int], None] = lambda split, records: None,
) -> dict[str, Imported]:
    """Write the published files of `task` in `folder` as an examples corpus at `destination` (disk or S3).

    With no folder, the files of the task's own source are taken, of whatever size.

    A row that the task cannot format is left out, counted and reported; more than `bad_records` of them stop the
    import with BudgetExceeded. The index is written last, so a broken import leaves no corpus.
    """
    storage = open_storage(destination)
    if "index.json" in storage.list("index.json"):
        raise UserError(f"{destination} holds a corpus already: name an empty place, or delete that one first.")
    found: dict[str, Imported] = {}
    shards: dict[str, tuple[Shard, ...]] = {}
    for split, rows in _splits(task, folder).items():
        report = found[split] = Imported()
        spent = sum(each.skipped for each in found.values())
        good = _good(task, split, rows(), report, bad_records - spent, progress)
        shards[split] = tuple(_written(storage, split, good, shard_bytes))
        if not report.records:
            raise UserError(f"Split {split!r} of task {task.name!r} has no record in its files: check them.")
    CorpusIndex(1, "examples", shards, None, f"{PIPELINE}: {task.name}").save(storage)
    return found


def _splits(task: Task, folder: str | Path | None) -> Splits:
    if folder is not None:
        return splits_of(task.name, folder)
    if isinstance(task.source, FileSource):
        return {split: partial(task.source.rows, split) for split in task.source.splits()}
    known = "give the folder of its published files" if task.name in published_names() else "give it a source"
    raise UserError(f"Task {task.name!r} has no files of its own to import: {known}.")


def _good(
    task: Task, split: str, rows: Iterator[Row], report: Imported, budget: int, progress: Callable[[str, int], None]
) -> Iterator[bytes]:
    """The rows' records as JSON, those that cannot be used charged to `report`."""
    shown = time.monotonic()
    for row in rows:
        problem = row.problem
        if row.record is not None:
            try:
                report.examples += len(task.format(row.record, evaluate=split != "train"))
            except UserError as error:
                problem = str(error)
        if row.record is None or problem:
            report.skipped += 1
            if len(report.problems) < SHOWN_PROBLEMS:
                report.problems.append(f"{row.where}: {problem}")
            if report.skipped > budget:
                raise BudgetExceeded(
                    f"More than {budget} rows of task {task.name!r} cannot be used, the last one {row.where}: "
                    f"{problem.rstrip('.')}. Mend the files, or allow more with --bad-records."
                )
            continue
        report.records += 1
        yield json.dumps(row.record, ensure_ascii=False, sort_keys=True).encode()
        if time.monotonic() - shown > 1:
            shown = time.monotonic()
            progress(split, report.records)


def _written(storage: Storage, split: str, records: Iterator[bytes], shard_bytes: int) -> Iterator[Shard]:
    """Shards of about `shard_bytes`, keyed by the record's number in the split."""
    writer: ShardWriter | None = None
    number = 0
    try:
        for index, record in enumerate(records):
            if writer is None:
                writer = ShardWriter(storage, split, number)
            writer.add(f"{index:09d}", {"json": record})
            if writer.size >= shard_bytes:
                yield writer.close()
                writer, number = None, number + 1
        if writer is not None:
            yield writer.close()
            writer = None
    finally:
        if writer is not None:
            writer.abort()
