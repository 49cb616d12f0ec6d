"""The scheduler actor: a plan's phases by name. It dies and comes back without stopping a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.config import Config
from orchestrator.scheduler.gauges import Gauges
from orchestrator.scheduler.order import Demand, Unit, startable
from orchestrator.scheduler.phase import Attempt, Control, Outcome, Phase, Status


class Scheduler:
    """Serves workers (enter, begin, control, log, event, finish) and the driver (status, offer, over, request_stop).

    State comes back from the run's ledger and metrics when Ray restarts the actor (`max_restarts=-1`); every method
    may be called again with the same arguments.
    """

    def __init__(self, phases: dict[str, tuple[Config, int]], units: Sequence[Unit]) -> None:
        self._phases = {name: Phase(config, readers, gauges=Gauges(name)) for name, (config, readers) in phases.items()}
        self._units = units

    def startable(self, waiting: list[str], done: list[str], running: list[str], capacity: Demand) -> list[str]:
        """See `order.startable`."""
        return startable(self._units, waiting, done, running, capacity)

    def enter(self, phase: str, world: int) -> bool:
        """See `Phase.enter`."""
        return self._phases[phase].enter(world)

    def begin(self, phase: str, step: int, nodes: list[str], metrics: list[dict[str, Any]]) -> Attempt:
        """See `Phase.begin`."""
        return self._phases[phase].begin(step, nodes, metrics)

    def control(self, phase: str, step: int = 0) -> Control:
        """See `Phase.control`."""
        return self._phases[phase].control(step)

    def log(self, phase: str, metrics: dict[str, Any]) -> None:
        """See `Phase.log`."""
        self._phases[phase].log(metrics)

    def event(self, phase: str, kind: str, fields: dict[str, Any]) -> None:
        """See `Phase.event`."""
        self._phases[phase].event(kind, **fields)

    def finish(self, phase: str, outcome: Outcome, reason: str = "") -> None:
        """See `Phase.finish`."""
        self._phases[phase].finish(outcome, reason)

    def offer(self, phase: str, workers: int) -> None:
        """See `Phase.offer`."""
        self._phases[phase].offer(workers)

    def over(self, phase: str) -> bool:
        """See `Phase.over`."""
        return self._phases[phase].over()

    def status(self, phase: str) -> Status:
        """See `Phase.status`."""
        return self._phases[phase].status()

    def request_stop(self, reason: str) -> None:
        """Stop every phase at its next agreed step."""
        for phase in self._phases.values():
            phase.request_stop(reason)

    def request_save(self, phase: str) -> None:
        """See `Phase.request_save`."""
        self._phases[phase].request_save()

    def flush(self) -> None:
        """Bring all metrics to storage."""
        for phase in self._phases.values():
            phase.flush()
