"""What a driver runs beside other work: the training of a phase, and the evaluation of what it saves."""

from __future__ import annotations

import contextlib
import platform
import threading
import traceback
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, Protocol

import ray

from data.errors import UserError
from orchestrator.checkpoint import Change, Keep, newest, require_same_run, require_space, scan
from orchestrator.evaluation.evaluation import Evaluation
from orchestrator.evaluation.pool import Pool
from orchestrator.lease import Lease, acquire
from orchestrator.report.ending import summarize
from orchestrator.report.summary import finished_steps
from orchestrator.run import KEYS, Run, record_config
from orchestrator.runner import PhaseRunner
from orchestrator.scheduler.order import Unit
from orchestrator.scheduler.phase import Status
from orchestrator.session import demand_of

_VERSIONED = ("t5-orchestrator", "torch", "ray", "numpy", "sentencepiece", "fairscale", "safetensors")
Say = Callable[[str], None]


class Work(Protocol):
    """A unit of a plan as the supervisor handles it."""

    unit: Unit

    @property
    def warnings(self) -> Sequence[str]:
        """What a person should know before it begins."""

    def waiting(self) -> bool:
        """Whether there is something to do (asked while it does not run)."""

    def start(self, scheduler: Any, say: Say) -> None:
        """Begin; returns at once."""

    @property
    def running(self) -> bool:
        """Whether it still works."""

    def stop(self) -> None:
        """Ask for an early end at which nothing is lost."""

    def end(self, status: Status) -> Status:
        """Let go of everything; `status` is what the scheduler knows. Called once after it ran."""


class Training:
    """Trains a phase; the run's lease is held from `claim` to `end`."""

    def __init__(self, run: Run, next_command: str, use_gpu: bool, after: str | None = None) -> None:
        """Refuses a run folder of another configuration by `UserError`."""
        self.run = run
        self.unit = Unit(run.config.run, demand_of(run.config, run.readers, use_gpu), after)
        self.warnings = run.warnings
        self.page = ""
        self._changes = check_resume(run)
        self._next_command = next_command
        self._use_gpu = use_gpu
        self._lease: Lease | None = None
        self._runner: PhaseRunner | None = None
        self._asked = False

    def waiting(self) -> bool:
        return not is_done(self.run)

    def claim(self) -> None:
        """Take the run's lease and record its configuration. Raises `LeaseHeld` where another process has it."""
        if self._lease is None:
            per_parameter = 4.1 if self.run.config.optimizer.name == "adafactor" else 12
            keep = Keep(permanent=self.run.config.checkpoint.keep)
            require_space(self.run.storage(), int(self.run.model.parameters() * per_parameter), keep)
            self._lease = acquire(self.run.storage(), patience=30.0).start()
            record_config(self.run)

    def start(self, scheduler: Any, say: Say) -> None:
        self.claim()
        assert self._lease is not None
        scheduler.event.remote(self.unit.name, "start", versions())
        if self._changes:
            changes = [str(change) for change in self._changes]
            scheduler.event.remote(self.unit.name, "config_changed", {"changes": changes})
        self._runner = PhaseRunner(self.run, scheduler, self._lease.fence(), self._use_gpu)
        self._runner.start()

    @property
    def running(self) -> bool:
        return self._runner is not None and self._runner.running

    def stop(self) -> None:
        """The scheduler asks the workers; this only remembers that it was wanted."""
        self._asked = True

    def end(self, status: Status) -> Status:
        if self._runner is not None:
            self._runner.close()
            if status.outcome is None:
                reason = f"{self._runner.error or 'the workers ended without an outcome'}"
                status = Status("stopped" if self._asked else "failed", reason)
        if status.outcome == "done":
            summary, self.page = summarize(self.run, self._next_command)
            summary.write(self.run.storage())
        if self._lease is not None:
            self._lease.close()
        self._runner = self._lease = None
        return status


class Evaluating:
    """Evaluates what a run has saved so far, or, with `follow`, what it goes on to save."""

    warnings: Sequence[str] = ()

    def __init__(self, name: str, evaluation: Evaluation, use_gpu: bool, *, follow: bool = False) -> None:
        self.evaluation = evaluation
        self.unit = Unit(name, evaluation.demand(use_gpu))
        self._use_gpu = use_gpu
        self._follow = follow
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._status = Status()

    def waiting(self) -> bool:
        return self._follow or bool(self.evaluation.pending())

    def start(self, scheduler: Any, say: Say) -> None:
        self._status = Status()
        self._thread = threading.Thread(target=self._work, args=(say,), name=f"evaluate-{self.unit.name}", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()

    def end(self, status: Status) -> Status:
        if self._status.outcome is None:
            self._status = Status("stopped", "asked to stop; what was decoded is kept")
        return self._status

    def _work(self, say: Say) -> None:
        try:
            with Pool(self.evaluation.settings, self._use_gpu) as pool:
                whole = self.evaluation.run(
                    pool, lambda words: say(f"{self.unit.name}: {words}"), self._stop, follow=self._follow
                )
            self._follow = self._follow and not whole
            self._status = Status("done") if whole else Status()
        except UserError as error:
            self._status = Status("failed", str(error))
        except ray.exceptions.RayError as error:
            self._status = Status("failed", str(error).strip().splitlines()[-1])
        except Exception:
            self._status = Status("failed", traceback.format_exc())


def is_done(run: Run) -> bool:
    """Whether the run ended with all its steps, as its folder says."""
    return finished_steps(run.storage()) == run.config.steps


def check_resume(run: Run) -> list[Change]:
    """What changed since the newest checkpoint; refuses, before Ray starts, a run folder of another configuration."""
    storage = run.storage()
    if not any(folder.committed for folder in scan(storage)):
        return []
    found = newest(storage, deep=False)
    assert found is not None
    saved = {key: found.manifest.payload[key] for key in run.identity()}
    return require_same_run(saved, run.identity(), KEYS, f"the checkpoint {found.manifest.folder}")


def versions() -> dict[str, str]:
    """Versions of what decides numbers, for the ledger: an accidental upgrade must be visible afterwards."""
    found = {"python": platform.python_version(), "host": platform.node()}
    for name in _VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
