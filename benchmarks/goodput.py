"""`python -m benchmarks.goodput`: the share of time in steps that counted, simulated for large clusters.

Faults come at published rates. What follows them is decided by the program's own code: `RestartPolicy` says whether
and when a run starts again, the configuration's defaults say when permanent checkpoints are written, and the ledger's
own `summarize` computes the share from the events of the simulated run. Everything else (how long a fault goes unseen,
how long a start takes) is an assumption, printed with the result.
"""

from __future__ import annotations

import dataclasses
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import common
from benchmarks.picture import curves
from orchestrator.config import Config
from orchestrator.faults import Failure, RestartPolicy
from orchestrator.ledger import Event, summarize

SIZES = (64, 256, 1024, 4096)
AIM = 0.97
INTERVALS = (60.0, 300.0, 900.0, 1800.0, 3600.0, 10800.0)
RATES = {
    "Llama 3, 16,384 H100 (arXiv 2407.21783)": 16384 * 54 * 24 / 419,
    "Meta RSC-1, 1,024 GPUs in 7.9 h (arXiv 2410.21680)": 1024 * 7.9,
}
"""GPU-hours between unplanned stops."""
CAUSES: dict[str, float] = {"node": 0.72, "worker": 0.26, "hang": 0.02}
"""Of the first source's 419 stops: hardware and maintenance, software and the like, 7 found by a watchdog."""


@dataclass(frozen=True)
class Assumptions:
    """What is not decided by the code; seconds."""

    step: float = 2.0
    stall: float = 0.5
    """Training stands still for so long at each checkpoint."""
    saving: float = 60.0
    """From its beginning until a checkpoint is committed."""
    detect: float = 15.0
    detect_hang: float = float(Config().faults.timeout_seconds)
    replace_node: float = 120.0
    """Until another node has joined."""
    start: float = 90.0
    """Processes, imports, process groups, compilation."""
    load: float = 60.0
    operator: float = 1800.0
    """Until somebody runs the same command again where the restart policy has ended the run."""
    gpus_per_node: int = 8


class Run:
    """One run on `gpus` devices, event by event, writing the events that a real run writes."""

    def __init__(
        self, gpus: int, gpu_hours: float, interval: float, assumed: Assumptions, chance: random.Random
    ) -> None:
        self._assumed, self._chance, self._interval = assumed, chance, interval
        self._mean = gpu_hours * 3600.0 / gpus
        self._nodes = gpus // assumed.gpus_per_node
        self._every = Config().checkpoint.every
        self._policy = RestartPolicy(budget=Config().faults.max_failures, same_step=Config().faults.same_step)
        self._failures: list[Failure] = []
        self._fault: tuple[str, str, int] | None = None
        self._saved = 0
        self.now = 0.0
        self.events: list[Event] = []
        self.stops = 0

    def simulate(self, seconds: float) -> None:
        """Until `seconds` have passed."""
        self._event("start")
        fault = self._chance.expovariate(1 / self._mean)
        while self.now < seconds:
            ready = self.now + self._assumed.start + self._assumed.load
            if fault > ready:
                self.now = ready
                if not self._may_begin():
                    self._failures = []
                    self.now += self._assumed.operator
                    continue
                self._event("attempt", step=self._saved, world=self._nodes)
                reached = self._train(min(fault, seconds))
            else:
                reached = self._saved
            if fault >= seconds:
                break
            self.now = max(self.now, fault)
            self._fail(reached)
            fault = self.now + self._chance.expovariate(1 / self._mean)

    def _train(self, until: float) -> int:
        """Steps from the last committed checkpoint on; returns the last complete one."""
        step, first, assumed = self._saved, self._saved + 1, self._assumed
        due = self.now + self._interval
        pending: tuple[float, int] | None = None
        spent = 0.0
        while True:
            # To the next checkpoint in one move: by the step for permanent ones, by the clock for the others.
            permanent = self._every - step % self._every
            count = min(permanent, max(1, -int(-(due - self.now) // assumed.step)))
            count = min(count, int((until - self.now) // assumed.step))
            self.now, spent, step = self.now + count * assumed.step, spent + count * assumed.step, step + count
            if pending is not None and pending[0] <= self.now:
                self._saved = pending[1]
                pending = None
            if self.now + assumed.step > until:
                break
            if pending is not None:
                # A save in flight is waited for, as the saver does.
                self.now = min(until, max(self.now, pending[0]))
                if self.now >= until:
                    break
                self._saved, pending = pending[1], None
            self.now += assumed.stall
            self._event("checkpoint", step=step, stall_seconds=assumed.stall)
            pending = (self.now + assumed.saving, step)
            due = self.now + self._interval
        if pending is not None and pending[0] <= until:
            self._saved = pending[1]
        if step >= first:
            self._event("progress", first=first, last=step, seconds=spent)
        return step

    def _fail(self, reached: int) -> None:
        assumed = self._assumed
        (cause,) = self._chance.choices(list(CAUSES), list(CAUSES.values()))
        node = str(self._chance.randrange(self._nodes))
        self._event("fault", fault=cause, step=reached, node=node)
        self.now += assumed.detect_hang if cause == "hang" else assumed.detect
        if cause == "node":
            self.now += assumed.replace_node
        self._fault = (cause, node, reached)

    def _may_begin(self) -> bool:
        """Ask the policy as the scheduler does, when a new worker group stands ready at the last checkpoint."""
        if self._fault is not None:
            cause, node, reached = self._fault
            self._failures.append(Failure("worker", reached, self._saved, cause, node))
            self._fault = None
            decision = self._policy.decide(self._failures)
            self.now += decision.wait_seconds
            if not decision.restart:
                self._event("outcome", outcome="failed", reason=decision.reason)
                self.stops += 1
                return False
        return True

    def _event(self, kind: str, **fields: Any) -> None:
        self.events.append({"kind": kind, "time": self.now, **fields})


def simulate(
    gpus: int, gpu_hours: float, interval: float, days: float, runs: int, assumed: Assumptions
) -> dict[str, float]:
    """Mean goodput over `runs` runs of `days` days its range, and how often the restart policy ended one."""
    shares, stopped, faults = [], 0, 0
    for number in range(runs):
        run = Run(gpus, gpu_hours, interval, assumed, random.Random(f"{gpus}/{interval}/{number}"))
        run.simulate(days * 86400.0)
        summary = summarize(run.events)
        faults += sum(summary.faults.values())
        stopped += run.stops
        shares.append(summary.goodput or 0.0)
    return {
        "goodput": statistics.mean(shares), "lowest": min(shares), "highest": max(shares),
        "stops": float(stopped), "faults_a_day": faults / runs / days,
    }  # fmt: skip


def measure(days: float, runs: int, assumed: Assumptions) -> dict[str, Any]:
    """Every size, interval and failure rate."""
    return {
        "goodput": {
            source: {
                str(gpus): {
                    f"{interval:g}": simulate(gpus, hours, interval, days, runs, assumed) for interval in INTERVALS
                }
                for gpus in SIZES
            }
            for source, hours in RATES.items()
        },
        "assumptions": dataclasses.asdict(assumed),
        "gpu_hours_between_faults": RATES,
        "causes": CAUSES,
        "days": days,
        "runs": runs,
    }


def table(result: dict[str, Any]) -> str:
    """Goodput by size and interval, a table for each failure rate."""
    head = ("GPUs", "faults a day", *(f"every {interval / 60:g} min" for interval in INTERVALS))
    parts = []
    for source, sizes in result["goodput"].items():
        rows = [
            (
                gpus,
                f"{next(iter(found.values()))['faults_a_day']:.2f}",
                *(f"{one['goodput']:.2%}" + (f" ({one['stops']:g})" if one["stops"] else "") for one in found.values()),
            )
            for gpus, found in sizes.items()
        ]
        parts.append(f"{source}\n\n{common.markdown(head, rows)}")
    assumed = ", ".join(f"{name} {value:g}" for name, value in result["assumptions"].items())
    note = "In brackets: how often, over all runs, the restart policy ended one that an operator then started again."
    return "\n\n".join([*parts, note, f"Assumed, in seconds: {assumed}."])


def picture(result: dict[str, Any]) -> str:
    """The first failure rate's table as curves, SVG."""
    source, sizes = next(iter(result["goodput"].items()))
    lines = {
        f"{gpus} GPUs": [(float(x) / 60, one["goodput"]) for x, one in found.items()] for gpus, found in sizes.items()
    }
    return curves(lines, title="Goodput by interval between checkpoints", note=f"failure rate: {source}",
                  across="minutes between checkpoints", up="share of time in steps that counted", aim=AIM)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate and print; with `--save` also the picture."""
    made = common.parser("goodput", "Simulated share of useful time, by cluster size and checkpoint interval.")
    made.add_argument("--days", type=float, default=60.0)
    made.add_argument("--runs", type=int, default=20)
    for field in dataclasses.fields(Assumptions):
        made.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    arguments = made.parse_args(argv)
    assumed = Assumptions(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Assumptions)})
    result = {**measure(arguments.days, arguments.runs, assumed), "machine": common.machine()}
    common.report("goodput", result, table(result), arguments)
    if arguments.save:
        (common.RESULTS / f"{result['machine']['date']}-goodput.svg").write_text(picture(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
