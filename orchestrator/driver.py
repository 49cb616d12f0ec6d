"""The driver: takes the run's lease, starts Ray, the scheduler and a phase, shows progress, hears signals, sums up."""

from __future__ import annotations

import contextlib
import platform
import signal
import threading
import time
from importlib import metadata
from typing import Any

import ray

from orchestrator.checkpoint import Change, newest, require_same_run, scan
from orchestrator.cli import DONE, FAILED, INTERRUPTED
from orchestrator.config import Config
from orchestrator.lease import Fence, acquire
from orchestrator.report.ending import summarize
from orchestrator.report.events import in_words
from orchestrator.report.progress import Progress
from orchestrator.run import KEYS, Run, open_run, record_config
from orchestrator.runner import PhaseRunner
from orchestrator.scheduler.actor import Scheduler
from orchestrator.scheduler.phase import Status
from orchestrator.session import Demand, missing_resources, ray_session

_POLL_SECONDS = 0.25
_VERSIONED = ("t5-orchestrator", "torch", "ray", "numpy", "sentencepiece", "fairscale", "safetensors")


class Stopping:
    """Hears SIGTERM and SIGINT: the first asks for a saved stop, the second ends the program at once."""

    def __init__(self) -> None:
        self.requested = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopping:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: object) -> None:
        if self.requested.is_set():
            raise SystemExit(INTERRUPTED)
        self.requested.set()


def run_phase(config: Config, next_command: str) -> int:
    """Run one configuration to its end; returns the exit code.

    Everything that can be refused is refused before Ray starts, by `UserError`.
    """
    run = open_run(config)
    changes = check_resume(run)
    with acquire(run.storage(), patience=30.0).start() as lease:
        record_config(run)
        with contextlib.ExitStack() as stack:
            progress = stack.enter_context(Progress(run.config.log.format))
            use_gpu = _cluster_has_gpus()
            stack.enter_context(ray_session(Demand.of(run.config, run.readers, use_gpu)))
            stopping = stack.enter_context(Stopping())
            status = _supervise(run, changes, lease.fence(), use_gpu, progress, stopping)
            if status.outcome == "done":
                summary, page = summarize(run, next_command)
        if status.outcome == "done":
            summary.write(run.storage())
            print(page if config.log.format != "json" else "", flush=True)
            return DONE
    print(f"{config.run}: {status.outcome}: {status.reason}", flush=True)
    return INTERRUPTED if status.outcome == "stopped" else FAILED


def check_resume(run: Run) -> list[Change]:
    """What changed since the newest checkpoint; refuses, before Ray starts, a run folder of another configuration."""
    storage = run.storage()
    if not any(folder.committed for folder in scan(storage)):
        return []
    found = newest(storage, deep=False)
    assert found is not None
    saved = {key: found.manifest.payload[key] for key in run.identity()}
    return require_same_run(saved, run.identity(), KEYS, f"the checkpoint {found.manifest.folder}")


def _cluster_has_gpus() -> bool:
    import torch

    return torch.cuda.is_available()


def _supervise(
    run: Run, changes: list[Change], fence: Fence, use_gpu: bool, progress: Progress, stopping: Stopping
) -> Status:
    """Start the actors and watch until the phase has an outcome and its workers have ended."""
    config = run.config
    lacking = missing_resources(Demand.of(config, run.readers, use_gpu))
    if lacking:
        progress.say(lacking)
    scheduler = ray.remote(Scheduler).options(
        num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=16
    ).remote({config.run: (config, run.readers)})  # fmt: skip
    scheduler.event.remote(config.run, "start", versions())
    if changes:
        scheduler.event.remote(config.run, "config_changed", {"changes": [str(change) for change in changes]})
    runner = PhaseRunner(run, scheduler, fence, use_gpu)
    runner.start()
    asked = False
    status = Status()
    try:
        while runner.running:
            time.sleep(_POLL_SECONDS)
            if stopping.requested.is_set() and not asked:
                progress.say("stopping: saving the run's state first (once more to stop at once)")
                scheduler.request_stop.remote("the driver was asked to stop")
                asked = True
            status = _show(scheduler, config, progress, status)
        status = _show(scheduler, config, progress, status)
        ray.get(scheduler.flush.remote())
    finally:
        runner.close()
    if status.outcome is None:
        status = Status("stopped" if asked else "failed", f"{runner.error or 'the workers ended without an outcome'}")
    return status


def _show(scheduler: Any, config: Config, progress: Progress, last: Status) -> Status:
    try:
        status: Status = ray.get(scheduler.status.remote(config.run), timeout=30)
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        return last
    for event in status.events:
        words = in_words(event)
        if words:
            progress.say(words, event)
    for metrics in status.metrics:
        progress.metrics(config.run, metrics, config.steps)
    return status if status.outcome is not None else last


def versions() -> dict[str, str]:
    """Versions of what decides numbers, for the ledger: an accidental upgrade must be visible afterwards."""
    found = {"python": platform.python_version(), "host": platform.node()}
    for name in _VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
