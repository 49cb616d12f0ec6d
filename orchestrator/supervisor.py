"""Watches over the work of one session: starts what the scheduler names, shows it, hears signals, notes outcomes."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.cli import DONE, FAILED, INTERRUPTED
from orchestrator.config import Config
from orchestrator.report.events import in_words
from orchestrator.report.progress import Progress
from orchestrator.scheduler.actor import Scheduler
from orchestrator.scheduler.order import Demand
from orchestrator.scheduler.phase import Status
from orchestrator.session import missing_resources
from orchestrator.work import Training, Work

_POLL_SECONDS = 0.25


class Signals:
    """Hears SIGTERM and SIGINT: the first asks for a saved stop, a second SIGINT ends the program at once. SIGUSR1 asks
    for a checkpoint, and the run goes on.

    Clusters send SIGTERM more than once (Kubernetes does when a job is deleted), so it never cuts a save off.
    """

    def __init__(self) -> None:
        self.stop, self.save = threading.Event(), threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number, hear in (
            (signal.SIGTERM, self._stop), (signal.SIGINT, self._stop), (signal.SIGUSR1, self._save)
        ):  # fmt: skip
            self._before[number] = signal.signal(number, hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: object) -> None:
        if self.stop.is_set() and number == signal.SIGINT:
            raise SystemExit(INTERRUPTED)
        self.stop.set()

    def _save(self, number: int, frame: object) -> None:
        self.save.set()


@dataclass
class Ended:
    """How the units of a session ended, by name."""

    statuses: dict[str, Status] = field(default_factory=dict)
    stopped: bool = False
    """Whether the driver was asked to stop before all was done."""

    @property
    def code(self) -> int:
        """The driver's exit code."""
        outcomes = {status.outcome for status in self.statuses.values()}
        if "failed" in outcomes:
            return FAILED
        return INTERRUPTED if self.stopped or "stopped" in outcomes else DONE


class Supervisor:
    """Runs the units of `works`, side by side where they fit; one that failed leaves out what comes after it alone.

    `done` names units that were done before this session.
    """

    def __init__(self, works: Sequence[Work], done: Collection[str], progress: Progress, signals: Signals) -> None:
        self._works = {work.unit.name: work for work in works}
        self._done = set(done)
        self._progress = progress
        self._signals = signals
        self._running: list[str] = []
        self._ended = Ended()
        self._statuses = {name: Status() for name in self._works}
        trainings = [work for work in works if isinstance(work, Training)]
        self._phases: dict[str, Config] = {work.unit.name: work.run.config for work in trainings}
        # It ends with this process anyway: on the same node no other node's end takes it away.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._scheduler = ray.remote(Scheduler).options(
            num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=16, scheduling_strategy=here
        ).remote(
            {work.unit.name: (work.run.config, work.run.readers) for work in trainings}, [work.unit for work in works]
        )  # fmt: skip

    def run(self) -> Ended:
        """Until nothing runs and nothing may start."""
        changed = True
        try:
            while True:
                if changed and not self._signals.stop.is_set():
                    changed = not self._start()
                if not self._running and not changed:
                    break
                time.sleep(_POLL_SECONDS)
                if self._signals.stop.is_set() and not self._ended.stopped:
                    self._stop()
                if self._signals.save.is_set():
                    self._save()
                for name in list(self._running):
                    changed |= self._look(name)
                if self._ended.stopped and not self._running:
                    # A stop that came when all was done anyway interrupted nothing.
                    self._ended.stopped = any(work.waiting() for work in self._works.values())
                    break
        finally:
            for name in self._running:
                self._works[name].end(Status("stopped", "the driver ended"))
        return self._ended

    def _start(self) -> bool:
        """Start what the scheduler names; False where it cannot be asked now."""
        waiting = [
            name
            for name, work in self._works.items()
            if name not in self._running
            and self._outcome(name) not in ("failed", "stopped")
            and not (name in self._done and isinstance(work, Training))
            and work.waiting()
        ]
        if not waiting:
            return True
        try:
            names = ray.get(
                self._scheduler.startable.remote(waiting, sorted(self._done), self._running, capacity()), timeout=60
            )
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            return False
        for name in names:
            work = self._works[name]
            lacking = missing_resources(work.unit.demand)
            if lacking:
                self._progress.say(lacking)
            work.start(self._scheduler, self._progress.say)
            self._running.append(name)
        return True

    def _outcome(self, name: str) -> str | None:
        status = self._ended.statuses.get(name)
        return None if status is None else status.outcome

    def _stop(self) -> None:
        self._progress.say("stopping: saving the state first (once more to stop at once)")
        self._scheduler.request_stop.remote("the driver was asked to stop")
        for name in self._running:
            self._works[name].stop()
        self._ended.stopped = True

    def _save(self) -> None:
        self._signals.save.clear()
        for name in self._running:
            if name in self._phases:
                self._progress.say(f"{name}: a checkpoint was asked for")
                self._scheduler.request_save.remote(name)

    def _look(self, name: str) -> bool:
        """Show what is new of a running unit and note its end; True where that may let something else start."""
        work = self._works[name]
        running = work.running
        saved = name in self._phases and self._show(name)
        if running:
            return saved
        self._running.remove(name)
        if name in self._phases:
            with contextlib.suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
                ray.get(self._scheduler.flush.remote(), timeout=60)
        status = self._ended.statuses[name] = work.end(self._statuses[name])
        if status.outcome == "done":
            self._done.add(name)
        else:
            self._progress.say(f"{name}: {status.outcome}: {status.reason}")
        return True

    def _show(self, name: str) -> bool:
        """Show news of a training; True where it saved a checkpoint."""
        try:
            status: Status = ray.get(self._scheduler.status.remote(name), timeout=30)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            return False
        prefix = f"{name}: " if len(self._phases) > 1 else ""
        for event in status.events:
            words = in_words(event)
            if words:
                self._progress.say(prefix + words, {"run": name, **event})
        for metrics in status.metrics:
            self._progress.metrics(name, metrics, self._phases[name].steps)
        if status.outcome is not None:
            self._statuses[name] = status
        return any(event["kind"] == "checkpoint" for event in status.events)


def capacity() -> Demand:
    """What the whole cluster has now."""
    have = ray.cluster_resources()
    return Demand(have.get("CPU", 0), have.get("GPU", 0))
