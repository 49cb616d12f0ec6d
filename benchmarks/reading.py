"""Readers in processes of their own: from S3 and from disk, one and two at a time, their memory, their hand-over."""

from __future__ import annotations

import multiprocessing
import re
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from benchmarks.common import pin
from benchmarks.corpora import RAW
from data.lanes import Cursor
from data.specification import LanesSpec

_CONTEXT = multiprocessing.get_context("spawn")
CHUNK = 4
"""Steps in one request, as a trainer asks for them."""


@dataclass(frozen=True)
class Read:
    """What a reader did: raw tokens, seconds of the clock, and the largest size its process had."""

    tokens: int
    seconds: float
    peak_bytes: int

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


_barrier: Barrier | None = None


def _share(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _read(spec: LanesSpec, lanes: Sequence[int], steps: int, core: int) -> Read:
    pin(core)
    from orchestrator.readers import Reader

    reader = Reader(spec)
    cursors: dict[int, Cursor] = {lane: {} for lane in lanes}  # type: ignore[typeddict-item]
    # The first chunk opens files and connections.
    cursors = reader.read(cursors, 1, CHUNK)[-1].cursors
    assert _barrier is not None
    _barrier.wait(120)
    began = time.perf_counter()
    for first in range(CHUNK, CHUNK + steps, CHUNK):
        cursors = reader.read(cursors, first + 1, CHUNK)[-1].cursors
    seconds = time.perf_counter() - began
    rows = spec.rows // spec.lanes * len(lanes) * -(-steps // CHUNK) * CHUNK
    return Read(rows * RAW, seconds, peak_memory())


def peak_memory() -> int:
    """The largest resident size of this process in bytes. getrusage counts what its parent held when it was forked."""
    kilobytes = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert kilobytes is not None
    return 1024 * int(kilobytes[1])


def read_at_once(specs: Sequence[LanesSpec], parts: Sequence[Sequence[int]], steps: int) -> list[Read]:
    """One process and core for each of `specs`, all starting together; `parts` are their lanes."""
    barrier = _CONTEXT.Barrier(len(specs))
    with ProcessPoolExecutor(len(specs), _CONTEXT, _share, (barrier,)) as pool:
        jobs = [
            pool.submit(_read, spec, lanes, steps, core)
            for core, (spec, lanes) in enumerate(zip(specs, parts, strict=True))
        ]
        return [job.result(600) for job in jobs]


def s3_over_disk(disk: LanesSpec, s3: LanesSpec, steps: int, rounds: int) -> dict[str, float]:
    """Median rates by the clock, in turns; `ratio` is S3's over the disk's."""
    lanes = range(disk.lanes)
    found: dict[str, list[float]] = {"disk": [], "s3": []}
    for _ in range(rounds):
        found["disk"].append(read_at_once([disk], [lanes], steps)[0].rate)
        found["s3"].append(read_at_once([s3], [lanes], steps)[0].rate)
    rates = {name: statistics.median(values) for name, values in found.items()}
    return {**rates, "ratio": rates["s3"] / rates["disk"]}


def two_over_one(spec: LanesSpec, steps: int, rounds: int) -> dict[str, float]:
    """Two readers with half of the lanes each, beside one with one half: rates by the clock, and their ratio."""
    halves = [range(0, spec.lanes, 2), range(1, spec.lanes, 2)]
    one, two, peak = [], [], 0
    for _ in range(rounds):
        single = read_at_once([spec], halves[:1], steps)[0]
        both = read_at_once([spec, spec], halves, steps)
        one.append(single.rate)
        two.append(sum(read.rate for read in both))
        peak = max(peak, single.peak_bytes, *(read.peak_bytes for read in both))
    rates = {"one": statistics.median(one), "two": statistics.median(two)}
    return {**rates, "ratio": rates["two"] / rates["one"], "rss_bytes": float(peak)}


def hand_over(spec: LanesSpec, steps: int) -> dict[str, float]:
    """Seconds a step that a trainer spends on taking ready rows from the object store, on a local Ray."""
    import ray

    from orchestrator.readers import Reader

    ray.init(address="local", num_cpus=2, object_store_memory=512 * 2**20, log_to_driver=False)
    try:
        reader = ray.remote(Reader).remote(spec)
        cursors: dict[int, Any] = {lane: {} for lane in range(spec.lanes)}
        spent, size = [], 0
        for first in range(1, steps + 1, CHUNK):
            reference = reader.read.remote(cursors, first, CHUNK)
            ray.wait([reference])
            began = time.perf_counter()
            chunk = ray.get(reference)
            spent.append((time.perf_counter() - began) / CHUNK)
            cursors = chunk[-1].cursors
            size = chunk[0].rows.inputs.nbytes + chunk[0].rows.targets.nbytes
        return {"seconds": statistics.median(spent), "bytes": float(size)}
    finally:
        ray.shutdown()
