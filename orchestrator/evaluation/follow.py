"""Tells whether a run is being written by a living process, from its lease alone: the run is not disturbed."""

from __future__ import annotations

import time
from collections.abc import Callable

from data.storage import Missing, Storage
from orchestrator.lease import PATH, Record


class Liveness:
    """Whether the run's lease is held and beats; asked again and again. No clocks of hosts are compared."""

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.monotonic) -> None:
        self._storage = storage
        self._clock = clock
        self._beat: tuple[int, int] | None = None
        self._seen = clock()

    def __call__(self) -> bool:
        try:
            record = Record.decode(self._storage.read(PATH))
        except Missing:
            return False
        if record.released or record.holder.is_dead_here():
            return False
        beat = (record.token, record.beat)
        if beat != self._beat:
            self._beat, self._seen = beat, self._clock()
        return self._clock() - self._seen <= 2 * record.time_to_live
