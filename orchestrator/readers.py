"""Reader actors turn records into rows; the feed on the trainer's side asks them a chunk of steps ahead.

A request carries the lanes' cursors, so it is idempotent: a reader that died is restarted empty by Ray and the
request is simply made again (laws 1 and 8). No message passes per example or per step.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.util.metrics import Gauge

from data.corpus import Corpus
from data.lanes import Cursor, Lanes, LanesSpec
from data.packing import Rows
from data.storage import CachedStorage, S3Storage, open_storage

Cursors = dict[int, Cursor]
READS_AT_ONCE = 8


@dataclass(frozen=True)
class StepRows:
    """One step's rows of some lanes, in the order of the lanes, and the cursors after it."""

    rows: Rows
    cursors: Cursors


class Reader:
    """Serves rows of any lane from any cursor; its only state is a cache."""

    def __init__(
        self, spec: LanesSpec, cache_gigabytes: float | None = None, tags: Mapping[str, str] | None = None
    ) -> None:
        """`tags` (run, reader) name this reader's memory on Ray's metrics endpoint; without them it is not shown."""
        def opened(url: str) -> Corpus:
            storage = open_storage(url)
            if cache_gigabytes is not None and isinstance(storage, S3Storage):
                folder = Path(tempfile.gettempdir()) / "t5-ranges"
                return Corpus.open(CachedStorage(storage, folder, int(cache_gigabytes * 1e9)), check=False)
            return Corpus.open(storage, check=False)

        self._held: Gauge | None = None
        if tags is not None:
            self._held = Gauge("t5_reader_held_bytes", "Bytes of rows, tokens and words kept", tag_keys=tuple(tags))
            self._held.set_default_tags(dict(tags))
        # Blocks to come are read while those at hand are worked on, since a range of S3 takes 30 to 100 ms to begin.
        executor = ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="blocks")
        self._lanes = Lanes(spec, open_corpus=opened, executor=executor)

    def read(self, cursors: Cursors, first_step: int, steps: int) -> list[StepRows]:
        """Rows of `steps` steps from `first_step` on, for the lanes in `cursors` (an empty cursor: the beginning)."""
        for lane, cursor in cursors.items():
            self._lanes.prefetch(lane, cursor)
        chunk = []
        for step in range(first_step, first_step + steps):
            rows, after = [], {}
            for lane in sorted(cursors):
                lane_rows, after[lane] = self._lanes.step(lane, cursors[lane], step)
                rows.append(lane_rows)
            chunk.append(StepRows(Rows.concatenate(rows), after))
            cursors = after
        if self._held is not None:
            self._held.set(self._lanes.held_bytes())
        return chunk


class Source(Protocol):
    """Where a feed's chunks come from: `request` must not block, `receive` does."""

    def request(self, cursors: Cursors, first_step: int, steps: int) -> Any: ...

    def receive(self, pending: Any) -> list[StepRows]: ...


class ActorSource:
    """Chunks from reader actors, each asked for the lanes the scheduler assigned to it."""

    def __init__(self, readers: Mapping[int, Any], assignment: Mapping[int, int], timeout_seconds: float) -> None:
        self._readers = readers
        self._assignment = assignment
        self._timeout = timeout_seconds

    def request(self, cursors: Cursors, first_step: int, steps: int) -> Any:
        by_reader: dict[int, Cursors] = {}
        for lane, cursor in cursors.items():
            by_reader.setdefault(self._assignment[lane], {})[lane] = cursor
        return [
            (sorted(part), self._readers[reader].read.remote(part, first_step, steps))
            for reader, part in sorted(by_reader.items())
        ]

    def receive(self, pending: Any) -> list[StepRows]:
        """Raises `ray.exceptions.GetTimeoutError` when a reader is silent for longer than the limit."""
        chunks = ray.get([reference for _, reference in pending], timeout=self._timeout)
        return [_in_lane_order([lanes for lanes, _ in pending], parts) for parts in zip(*chunks, strict=True)]


def _in_lane_order(lanes: Sequence[Sequence[int]], parts: Sequence[StepRows]) -> StepRows:
    """Rows sorted by lane whichever reader made them: the order decides rounding, so it must not depend on readers."""
    by_lane: dict[int, Rows] = {}
    cursors: Cursors = {}
    for group, part in zip(lanes, parts, strict=True):
        size = len(part.rows) // len(group)
        for place, lane in enumerate(group):
            by_lane[lane] = part.rows.take(slice(place * size, (place + 1) * size))
        cursors.update(part.cursors)
    return StepRows(Rows.concatenate([by_lane[lane] for lane in sorted(by_lane)]), cursors)


class Feed:
    """Iterates over steps with one chunk always on its way; counts the seconds it had to wait."""

    def __init__(self, source: Source, cursors: Cursors, first_step: int, last_step: int, ahead_steps: int) -> None:
        self._source = source
        self._cursors = cursors
        self._next = first_step
        self._last = last_step
        self._ahead = ahead_steps
        self.waited_seconds = 0.0

    def __iter__(self) -> Iterator[tuple[int, StepRows]]:
        """Yields (step, rows) from the first step to the last."""
        pending = self._request()
        while pending is not None:
            first_step, reference = pending
            began = time.monotonic()
            chunk = self._source.receive(reference)
            self.waited_seconds += time.monotonic() - began
            self._cursors = chunk[-1].cursors
            pending = self._request()
            yield from enumerate(chunk, start=first_step)

    def _request(self) -> tuple[int, Any] | None:
        steps = min(self._ahead, self._last - self._next + 1)
        if steps <= 0:
            return None
        first_step, self._next = self._next, self._next + steps
        return first_step, self._source.request(self._cursors, first_step, steps)


def lanes_of_rank(lanes: int, rank: int, world: int) -> range:
    """Lanes p with p = rank modulo world: what data-parallel rank `rank` consumes."""
    return range(rank, lanes, world)


def assign_lanes(lanes: int, readers: int) -> dict[int, int]:
    """Which reader serves which lane."""
    return {lane: lane % readers for lane in range(lanes)}
