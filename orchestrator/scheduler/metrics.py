"""`metrics.jsonl` and the TensorBoard files of a run, written by the scheduler alone."""

from __future__ import annotations

import json
import math
import tempfile
import threading
import time
from bisect import bisect_left
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from data.storage import Missing, Storage

METRICS = "metrics.jsonl"
_SECONDS_PER_MEGABYTE = 5.0


class MetricsLog:
    """One JSON object a logged step; a resumed run drops the lines of steps that it takes again.

    The whole file is written atomically; the larger it grows the rarer, so that the cost stays bounded on S3.
    """

    def __init__(self, storage: Storage, clock: Any = time.monotonic) -> None:
        self._storage = storage
        self._clock = clock
        self._lines = _read(storage)
        self._tried_at = -math.inf
        self._writing = threading.Lock()
        self._dirty = False
        self.written = _last_step(self._lines)
        """Step of the last line that is in storage; lines up to it need not be kept elsewhere."""

    def resume(self, step: int) -> None:
        """Forget what was logged after `step`."""
        kept = [line for line in self._lines if line["step"] <= step]
        self._dirty = self._dirty or len(kept) != len(self._lines)
        self._lines = kept
        self.written = min(self.written, step)

    def add(self, metrics: dict[str, Any]) -> None:
        """Take one object; it must have a `step`. Calls may overtake each other, and a repeated one replaces."""
        place = bisect_left(self._lines, metrics["step"], key=lambda line: line["step"])
        repeated = place < len(self._lines) and self._lines[place]["step"] == metrics["step"]
        self._lines[place : place + repeated] = [metrics]
        self._dirty = True

    @property
    def due(self) -> bool:
        """Whether there is something new, and the last attempt to write is long enough ago for the file's size."""
        size = sum(map(len, map(str, self._lines[-1:]))) * len(self._lines)
        return self._dirty and self._clock() - self._tried_at >= size / 2**20 * _SECONDS_PER_MEGABYTE

    def flush(self) -> None:
        """Write what is new. Lines may be added meanwhile; of several calls one writes at a time."""
        with self._writing:
            if not self._dirty:
                return
            lines, self._dirty = list(self._lines), False
            try:
                self._storage.write(METRICS, "".join(json.dumps(line) + "\n" for line in lines).encode())
            except BaseException:
                self._dirty = True
                raise
            finally:
                self._tried_at = self._clock()
            self.written = _last_step(lines)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All objects, oldest first."""
        return list(self._lines)


def _read(storage: Storage) -> list[dict[str, Any]]:
    try:
        text = storage.read(METRICS).decode()
    except Missing:
        return []
    return [json.loads(line) for line in text.splitlines()]


def _last_step(lines: list[dict[str, Any]]) -> int:
    return int(lines[-1]["step"]) if lines else 0


class TensorBoard:
    """Scalars of a run as TensorBoard event files under `tensorboard/`."""

    def __init__(self, storage: Storage, attempt: int) -> None:
        self._storage = storage
        # Gone with this object.
        self._folder = tempfile.TemporaryDirectory(prefix="t5-tensorboard-")
        self._prefix = f"tensorboard/attempt-{attempt:04d}"
        self._writer = SummaryWriter(self._folder.name)

    def add(self, metrics: dict[str, Any]) -> None:
        """Every number of `metrics` but the step becomes a scalar."""
        for name, value in metrics.items():
            if name != "step" and isinstance(value, int | float):
                self._writer.add_scalar(name, value, metrics["step"])

    def flush(self) -> None:
        """Bring the event files to the run's storage."""
        self._writer.flush()
        for path in Path(self._folder.name).iterdir():
            self._storage.upload(f"{self._prefix}/{path.name}", path)
