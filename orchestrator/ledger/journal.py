"""The run's record on storage: events as JSON lines in numbered segments, appended without ever tearing one.

Object stores cannot append, so the segment in use is written anew, whole, with each flush; it is small, and a new one
begins when it is full. The numbers give the order without a clock; behind the number stands the writer, so several
writers share a ledger without a lock. Appending costs the caller nothing: a thread writes, and tries again while
storage is away.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from data.storage import Missing, Storage
from orchestrator.redaction import redact

log = logging.getLogger(__name__)

ROOT = "ledger"
SEGMENT_BYTES = 64 << 10
_SEGMENT = re.compile(rf"{ROOT}/(\d{{9}})-[0-9a-f]+\.jsonl")
_RETRY_SECONDS = (0.5, 30.0)

Event = dict[str, Any]


def segment_path(number: int, writer: str) -> str:
    """`ledger/000000012-<writer>.jsonl`."""
    return f"{ROOT}/{number:09d}-{writer}.jsonl"


def _segments(storage: Storage) -> list[str]:
    return [path for path in storage.list(f"{ROOT}/") if _SEGMENT.fullmatch(path)]


def read_events(storage: Storage) -> list[Event]:
    """All events in the order of segments and lines.

    A torn last line of a segment is passed over (its writer was killed); a line that is otherwise unreadable becomes
    an event of kind `unreadable` that names segment and line.
    """
    events: list[Event] = []
    for path in _segments(storage):
        with contextlib.suppress(Missing):
            events.extend(_parse(storage.read(path), path))
    return events


def _parse(data: bytes, path: str) -> list[Event]:
    events: list[Event] = []
    lines = data.split(b"\n")
    for index, line in enumerate(lines):
        if not line:
            continue
        try:
            event = json.loads(line)
            if not isinstance(event, dict) or not isinstance(event.get("kind"), str):
                raise ValueError("no kind")
            events.append(event)
        except ValueError:
            if index < len(lines) - 1:
                events.append({"kind": "unreadable", "segment": path, "line": index + 1})
    return events


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return redact(str(value))


class Ledger:
    """Appends to and reads the ledger of one run; safe to use from several threads.

    `clock` gives wall-clock seconds.
    """

    def __init__(
        self, storage: Storage, *, segment_bytes: int = SEGMENT_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        self._storage, self._segment_bytes, self._clock = storage, segment_bytes, clock
        self._writer = secrets.token_hex(8)
        self._segment: str | None = None
        self._written = b""
        self._pending: list[bytes] = []
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None

    def append(self, kind: str, **fields: Any) -> None:
        """Take an event; it is on storage soon, or after `flush`. `time` (seconds since 1970) is added.

        Values that JSON does not have (a NaN loss, a path) are kept as text: a record never stops a run. Credentials in
        texts are left out.
        """
        event = {"kind": kind, "time": self._clock(), **fields}
        line = json.dumps(_plain(event), allow_nan=False).encode() + b"\n"
        with self._changed:
            self._pending.append(line)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def events(self) -> list[Event]:
        """All events of the run so far, those not yet on storage last."""
        with self._writing:
            stored = read_events(self._storage)
            with self._changed:
                waiting = b"".join(self._pending)
        return stored + _parse(waiting, "(not yet written)")

    def flush(self) -> None:
        """Write what is pending now. Raises what the storage raises; the events stay pending then."""
        with self._writing:
            with self._changed:
                taken = list(self._pending)
            if not taken:
                return
            self._write(taken)
            with self._changed:
                del self._pending[: len(taken)]

    def close(self) -> None:
        """Flush and end the thread; an event that storage would not take is logged, not raised."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        try:
            self.flush()
        except Exception as error:
            log.error("%d ledger events could not be written: %s", len(self._pending), error)

    def _run(self) -> None:
        pause = _RETRY_SECONDS[0]
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._pending)
                if self._closed:
                    return
            try:
                self.flush()
                pause = _RETRY_SECONDS[0]
            except Exception as error:
                log.warning("ledger not written, trying again in %g s: %s", pause, error)
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, pause)
                pause = min(2 * pause, _RETRY_SECONDS[1])

    def _write(self, lines: list[bytes]) -> None:
        added = b"".join(lines)
        if self._segment is None or len(self._written) + len(added) > self._segment_bytes:
            numbers = [int(match[1]) for match in map(_SEGMENT.fullmatch, _segments(self._storage)) if match]
            self._segment, self._written = segment_path(max(numbers, default=-1) + 1, self._writer), b""
        self._storage.write(self._segment, self._written + added)
        self._written += added
