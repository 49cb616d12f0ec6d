"""How many workers the next group of an elastic run gets: what fits beside the readers, in whole groups. No Ray in it.

Amounts are those of the resource that a worker takes (GPUs, else CPUs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.config import Config

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Sizes:
    """Between `low` and `high` workers in steps of `group`, each of which takes `each` of a node.

    `readers` actors, spread over the nodes, take `reader` each of the same resource.
    """

    low: int
    high: int
    group: int
    each: float
    readers: int = 0
    reader: float = 0.0

    @classmethod
    def of(cls, config: Config, readers: int, use_gpu: bool) -> Sizes:
        """The sizes that `config` allows."""
        group = config.parallel.tensor * config.parallel.replicas
        if use_gpu:
            return cls(*config.worker_range, group, 1.0)
        return cls(*config.worker_range, group, float(config.parallel.cpus), readers, config.readers.cpus)

    def room(self, nodes: Sequence[float]) -> int:
        """Workers that nodes with these amounts hold beside the readers; `low` where that is fewer, to wait for."""
        hosts = sum(amount > 0 for amount in nodes)
        # Any node may hold its share of the readers.
        beside = -(-self.readers // max(1, hosts)) * self.reader
        return self._whole(sum(self._workers(amount - beside) for amount in nodes))

    def smaller(self, workers: int) -> int:
        """One group fewer, `low` at least."""
        return self._whole(workers - self.group)

    def offer(self, nodes: Sequence[float], free: float, running: int) -> int:
        """Workers that a run of `running` could have instead, without taking what others hold: `free` is held by
        nobody."""
        return min(self.room(nodes), self._whole(running + self._workers(free)))

    def _workers(self, amount: float) -> int:
        return int(max(0.0, amount + _ROUNDING) // self.each)

    def _whole(self, workers: int) -> int:
        return max(self.low, min(self.high, workers) // self.group * self.group)


class Elastic:
    """The size of each group in turn. A size that could not start is not tried again before the nodes change."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._refused: tuple[int, tuple[float, ...]] | None = None
        self._offered = 0
        self.workers = sizes.low
        """Of the group that runs or is about to."""

    def resize(self, nodes: Sequence[float]) -> int:
        """The size to go on with after a failure, or at the beginning."""
        self.workers = self._possible(self._sizes.room(nodes), nodes)
        return self.workers

    def grow(self, nodes: Sequence[float]) -> int:
        """The size to go on with after a group that ended to make room for a larger one."""
        self.workers = min(self._possible(self._sizes.room(nodes), nodes), max(self._offered, self._sizes.low))
        return self.workers

    def shrink(self, nodes: Sequence[float]) -> int:
        """The size to go on with after a group that did not start: nodes may be gone without a word."""
        self._refused = (self.workers, tuple(sorted(nodes)))
        return self.resize(nodes)

    def offer(self, nodes: Sequence[float], free: float) -> int:
        """What the running group could be exchanged for."""
        self._offered = self._possible(self._sizes.offer(nodes, free, self.workers), nodes)
        return self._offered

    def _possible(self, workers: int, nodes: Sequence[float]) -> int:
        if self._refused is None or self._refused[1] != tuple(sorted(nodes)):
            return workers
        return min(workers, self._sizes.smaller(self._refused[0]))
