"""What the ledger says about the run's time: seconds in steps that counted over wall time.

A step counts once, in the attempt whose result stayed: what an attempt did beyond the step from which a later one
began was lost and is work done again. Time between an orderly end of the run and its next start is nobody's loss
and is left out; time between a fault and the next start is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.faults.blame import by_node
from orchestrator.ledger.journal import Event

_FAULTS = {
    "worker_failed": "worker", "nonfinite": "non-finite step", "loss_spike": "loss spike", "straggler": "straggler",
}  # fmt: skip
"""Kinds that are faults of one class."""


@dataclass(frozen=True)
class Summary:
    """A run in numbers. Seconds are wall-clock; `goodput` is None before any progress is recorded."""

    wall_seconds: float
    counted_seconds: float
    lost_seconds: float
    stall_seconds: float
    last_step: int
    redone_steps: int
    attempts: int
    restarts: int
    """Attempts that followed one without an orderly outcome."""
    faults: dict[str, int]
    checkpoints: int
    failed_checkpoints: int
    worlds: tuple[int, ...]
    skipped_steps: int
    nodes: dict[str, dict[str, int]]
    """Faults by node that they point to, and by class; worst node first."""

    @property
    def goodput(self) -> float | None:
        return self.counted_seconds / self.wall_seconds if self.wall_seconds > 0 and self.counted_seconds > 0 else None


@dataclass
class _Attempt:
    start: int
    progress: list[tuple[int, int, float]]


def summarize(events: Sequence[Event]) -> Summary:
    """Numbers from events of the kinds that `orchestrator.ledger` lists; foreign kinds are passed over."""
    attempts: list[_Attempt] = []
    faults: Counter[str] = Counter()
    worlds: list[int] = []
    committed = failed = skipped = restarts = 0
    running = False
    stall = 0.0
    for event in events:
        kind = event["kind"]
        if kind == "attempt":
            restarts += running
            running = True
            attempts.append(_Attempt(int(event["step"]), []))
            if not worlds or worlds[-1] != event.get("world"):
                worlds.append(int(event.get("world", 0)))
        elif kind == "progress" and attempts:
            attempts[-1].progress.append((int(event["first"]), int(event["last"]), float(event["seconds"])))
        elif kind == "grow":
            running = False
        elif kind == "outcome":
            running = not _orderly_end(event)
        elif kind == "fault" or kind in _FAULTS:
            faults[_FAULTS.get(kind) or str(event.get("fault", "unknown"))] += 1
        elif kind == "checkpoint":
            committed += 1
            stall += float(event.get("stall_seconds", 0.0))
        elif kind == "checkpoint_failed":
            failed += 1
        elif kind == "window_skipped":
            skipped += int(event["last"]) - int(event["first"]) + 1
    counted, lost, redone, last = _count(attempts)
    return Summary(_wall(events), counted, lost, stall, last, redone, len(attempts), restarts, dict(faults), committed,
                   failed, tuple(worlds), skipped, by_node(events))  # fmt: skip


def _count(attempts: list[_Attempt]) -> tuple[float, float, int, int]:
    """Seconds that counted, seconds lost, steps done again, last step that stands."""
    counted = lost = 0.0
    redone = last = 0
    limit: int | None = None
    for attempt in reversed(attempts):
        for first, end, seconds in attempt.progress:
            steps = end - first + 1
            kept = steps if limit is None else max(0, min(end, limit) - first + 1)
            counted += seconds * kept / steps
            lost += seconds * (steps - kept) / steps
            redone += steps - kept
            if kept:
                last = max(last, first + kept - 1)
        limit = attempt.start if limit is None else min(limit, attempt.start)
    return counted, lost, redone, last


def _wall(events: Sequence[Event]) -> float:
    """Time from first to last event without the pauses after an orderly outcome; clocks that step back add nothing."""
    total = 0.0
    previous: Event | None = None
    for event in events:
        now = event.get("time")
        if not isinstance(now, int | float):
            continue
        if previous is not None and not _orderly_end(previous):
            total += max(0.0, float(now) - float(previous["time"]))
        previous = event
    return total


def _orderly_end(event: Event) -> bool:
    return event["kind"] == "outcome" and event.get("outcome") != "failed"


def as_dict(summary: Summary) -> dict[str, Any]:
    """Plain data for JSON."""
    return {**vars(summary), "worlds": list(summary.worlds), "goodput": summary.goodput}
