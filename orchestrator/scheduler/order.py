"""Which pieces of a plan start now: those whose predecessors are done and that fit beside what runs. No Ray in it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Demand:
    """What a piece of work asks of the cluster."""

    cpus: float
    gpus: float = 0

    def fits(self, free: Demand) -> bool:
        """Whether it fits into what is free; sums of small shares of a CPU may be rounded."""
        return self.cpus <= free.cpus + 1e-6 and self.gpus <= free.gpus + 1e-6

    def less(self, taken: Demand) -> Demand:
        """What is left when `taken` is in use."""
        return Demand(self.cpus - taken.cpus, self.gpus - taken.gpus)

    @staticmethod
    def most(demands: Collection[Demand]) -> Demand:
        """What is enough for any one of `demands` at a time."""
        return Demand(max(each.cpus for each in demands), max(each.gpus for each in demands))


@dataclass(frozen=True)
class Unit:
    """One piece of a plan: training a phase, or evaluating what it has saved."""

    name: str
    demand: Demand
    after: str | None = None
    """Name of the unit that must be done before."""


def startable(
    units: Sequence[Unit], waiting: Collection[str], done: Collection[str], running: Collection[str], capacity: Demand
) -> list[str]:
    """Names of the waiting units to start now, in the plan's order, on a cluster of `capacity`.

    Where nothing runs, the first unit that may start does so even if it does not fit: an autoscaler may bring nodes.
    """
    free = capacity
    for unit in units:
        if unit.name in running:
            free = free.less(unit.demand)
    chosen: list[str] = []
    for unit in units:
        ready = unit.name in waiting and unit.name not in running and (unit.after is None or unit.after in done)
        if ready and (unit.demand.fits(free) or not (running or chosen)):
            chosen.append(unit.name)
            free = free.less(unit.demand)
    return chosen
