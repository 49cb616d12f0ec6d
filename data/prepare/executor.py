"""Runs the tasks of a stage: one after the other in this process, or as Ray tasks on one machine or a cluster.

A stage is a pure function of (job, task number) whose outputs lie in the work folder; so tasks may run anywhere, in
any order, and twice, and a stage that was interrupted runs only what has no marker yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from data.errors import UserError
from data.prepare.progress import Progress
from data.prepare.rules import Cleaner, bad_word_pattern
from data.prepare.settings import Settings
from data.prepare.sources import Piece, Source
from data.prepare.urls import UrlSet
from data.prepare.work import Work
from data.storage import Storage

# So many tasks are handed to Ray beyond those that can run, so that no worker waits for the driver.
_AHEAD = 2


@dataclass(frozen=True)
class Lists:
    """The user's lists: domains (RealNews-like), URLs (WebText-like), bad words; None or empty where not given."""

    domains: frozenset[str] | None = None
    urls: UrlSet | None = None
    bad_words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """All that a task needs to know; plain data that travels to workers once."""

    settings: Settings
    lists: Lists
    output: Storage
    work: Work
    sources: tuple[Source, ...]
    pieces: tuple[Piece, ...]
    partitions: int
    validation_share: float

    def cleaner(self) -> Cleaner:
        """The line rules of this job."""
        return Cleaner(self.settings, bad_word_pattern(self.lists.bad_words))


Task = Callable[[Job, int], dict[str, Any]]


class Executor(Protocol):
    """Runs tasks in any order and yields (number, result) as they finish."""

    def run(self, function: Task, job: Job, tasks: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]: ...


class InProcess:
    """One task after the other, here."""

    def run(self, function: Task, job: Job, tasks: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        for task in tasks:
            yield task, function(job, task)


class OnRay:
    """At most `workers` tasks at a time, one core each, on RAY_ADDRESS (as in a submitted job) or a local Ray."""

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise UserError(f"{workers} workers cannot work; give at least 1")
        self._workers = workers

    def run(self, function: Task, job: Job, tasks: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        import ray

        if not tasks:
            return
        if not ray.is_initialized():
            if os.environ.get("RAY_ADDRESS"):
                ray.init(log_to_driver=False)
            else:
                ray.init(address="local", num_cpus=self._workers, include_dashboard=False, log_to_driver=False)
        # A task whose worker or node dies is run again by Ray; it writes the same bytes.
        remote = ray.remote(num_cpus=1, max_retries=3)(_call)
        shared = (ray.put(function), ray.put(job))
        waiting = list(reversed(tasks))
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < self._workers + _AHEAD:
                task = waiting.pop()
                running[remote.remote(*shared, task)] = task
            done, _ = ray.wait(list(running), num_returns=1)
            try:
                yield running.pop(done[0]), ray.get(done[0])
            except ray.exceptions.RayTaskError as error:
                for reference in running:
                    ray.cancel(reference)
                raise error.cause from None


def _call(function: Task, job: Job, task: int) -> dict[str, Any]:
    return function(job, task)


@dataclass(frozen=True)
class _Marked:
    """A stage's function that marks its task as done."""

    stage: str
    function: Task

    def __call__(self, job: Job, task: int) -> dict[str, Any]:
        result = self.function(job, task)
        job.work.finish(self.stage, task, result)
        return result


def run_stage(
    job: Job, stage: str, function: Task, count: int, executor: Executor, progress: Progress
) -> list[dict[str, Any]]:
    """The results of tasks 0 … count − 1 of a stage, in order; those with a marker are not run again."""
    results: dict[int, dict[str, Any]] = {}
    for task in job.work.finished(stage):
        found = job.work.result(stage, task)
        if found is not None:
            results[task] = found
    progress.start(stage, count, len(results))
    missing = [task for task in range(count) if task not in results]
    for task, result in executor.run(_Marked(stage, function), job, missing):
        results[task] = result
        progress.advance()
    progress.finish()
    return [results[task] for task in range(count)]
