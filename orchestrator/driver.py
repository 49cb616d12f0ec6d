"""The driver of one phase and of many: opens the session on Ray, supervises the work in it, sums up."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import Literal

from orchestrator.cli import DONE
from orchestrator.config import Config
from orchestrator.report.progress import Progress
from orchestrator.run import open_run
from orchestrator.scheduler.order import Demand
from orchestrator.session import ray_session, use_gpus
from orchestrator.supervisor import Ended, Signals, Supervisor
from orchestrator.work import Training, Work


def run_phase(config: Config, next_command: str) -> int:
    """Run one configuration to its end; returns the exit code.

    Everything that can be refused is refused before Ray starts, by `UserError`.
    """
    training = Training(open_run(config), next_command, use_gpus(config.parallel.device))
    training.claim()
    ended = run_work([training], style=config.log.format)
    if ended.code == DONE and config.log.format != "json":
        print(training.page, flush=True)
    return ended.code


def run_work(works: Sequence[Work], done: Collection[str] = (), *, style: Literal["auto", "text", "json"]) -> Ended:
    """Run `works` on Ray, started here or joined; those named in `done` count as done before."""
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(style))
        for warning in dict.fromkeys(warning for work in works for warning in work.warnings):
            progress.say(f"warning: {warning}")
        stack.enter_context(ray_session(Demand.most([work.unit.demand for work in works])))
        signals = stack.enter_context(Signals())
        return Supervisor(works, done, progress, signals).run()
