"""Helpers of the preparation's tests: a ready vocabulary, small settings, executors that shuffle, thread or die."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from data.corpus import Corpus
from data.prepare.executor import Job, Task
from data.prepare.pipeline import Request
from data.prepare.settings import Settings, variant_settings
from data.prepare.train_vocabulary import train_vocabulary
from data.vocabulary import Vocabulary
from tests.data.prepare.crawl import crawl


class Killed(BaseException):
    """Stands for SIGKILL: nothing on the way may catch it."""


class Threads:
    """Runs tasks in a given number of threads, begun in a shuffled order, reported as they finish."""

    def __init__(self, workers: int, seed: int = 0) -> None:
        self.workers = workers
        self.random = random.Random(seed)

    def run(self, function: Task, job: Job, tasks: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        order = list(tasks)
        self.random.shuffle(order)
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(lambda task: (task, function(job, task)), order)


@cache
def vocabulary() -> Vocabulary:
    """A small vocabulary over the made-up crawl."""
    return Vocabulary(train_vocabulary([record["text"] for record in crawl(40)], 120))


def small_settings(variant: str = "c4", **changes: Any) -> Settings:
    """Settings that cut a few hundred kilobytes into several pieces, partitions, parts and shards."""
    small = {"piece_bytes": 9_000, "partition_bytes": 20_000, "part_bytes": 2_000, "shard_bytes": 8_000}
    return variant_settings(variant, **{**small, "language": None, "validation_share": 0.2, **changes})


def request(inputs: Path | Sequence[Path], output: Path, settings: Settings, **changes: Any) -> Request:
    """A request with the small vocabulary."""
    places = [inputs] if isinstance(inputs, Path) else inputs
    changes.setdefault("vocabulary", vocabulary())
    return Request(tuple(map(str, places)), str(output), settings, **changes)


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder with their bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def texts(folder: Path) -> dict[str, str]:
    """{key: text} of all splits of a prepared corpus."""
    corpus = Corpus.open(folder)
    found = {}
    for split, shards in corpus.index.splits.items():
        for number, shard in enumerate(shards):
            for key, members in corpus.read_block(split, number, 0, shard.records):
                assert key not in found
                found[key] = members["txt"].decode()
    return found
