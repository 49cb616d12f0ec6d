"""One writer per run: a lease object in storage with a fencing token, kept alive by a heartbeat.

The object holds the holder, a token that grows with each owner, and a beat that grows with each renewal; every
change is a conditional put, so two processes can never both believe that they made it. Hosts never compare clocks:
who wants a lease that is held watches whether the object changes for the holder's time to live, on its own
monotonic clock. A holder that cannot renew for that long stops believing in its lease on its own.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from data.errors import UserError
from data.storage import Changed, Missing, Storage

log = logging.getLogger(__name__)

PATH = "lease.json"


class LeaseHeld(UserError):
    """Another process is writing this run."""


class LeaseLost(UserError):
    """This process was the run's writer and no longer is: another took over, or renewal failed for too long."""


class Clock(Protocol):
    """Monotonic seconds and sleep; tests replace it."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


@dataclass(frozen=True)
class Holder:
    """Who holds a lease. `nonce` is unique to one acquisition; the process identity lets a successor on the same
    machine see at once that the holder is dead."""

    host: str
    pid: int
    machine: str
    started: str
    nonce: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def is_dead_here(self) -> bool:
        """True only where the holder ran on this machine, in this process namespace, and is gone."""
        return self.machine == _machine() and _process_start(self.pid) != self.started


@dataclass(frozen=True)
class Record:
    """The content of the lease object."""

    holder: Holder
    token: int
    beat: int
    time_to_live: float
    released: bool = False

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def decode(data: bytes) -> Record:
        """Raises UserError for anything that is not a lease."""
        try:
            body = json.loads(data)
            return Record(Holder(**body["holder"]), int(body["token"]), int(body["beat"]),
                          float(body["time_to_live"]), bool(body["released"]))  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{PATH} in the run folder is not a lease ({error}): delete it if no run is "
                            "alive") from error  # fmt: skip


def _machine() -> str:
    """This boot of this machine and this process namespace: process ids compare only inside it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"unknown/{secrets.token_hex(8)}"


def _process_start(pid: int) -> str:
    """Start time of a process in kernel ticks, empty where there is no such (living) process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def this_process() -> Holder:
    """This process as a holder, with a fresh nonce."""
    return Holder(socket.gethostname(), os.getpid(), _machine(), _process_start(os.getpid()), secrets.token_hex(8))


@dataclass(frozen=True)
class Fence:
    """What a holder hands to its workers: they can check, before a commit, that the lease is still theirs."""

    storage: Storage
    token: int
    nonce: str

    def check(self) -> None:
        """Raises LeaseLost where the lease object names another owner."""
        try:
            record = Record.decode(self.storage.read(PATH))
        except Missing:
            raise LeaseLost(f"the lease of {self.storage.url} is gone; this run must not write any more") from None
        if (record.token, record.holder.nonce) != (self.token, self.nonce):
            raise LeaseLost(f"{record.holder} has taken over {self.storage.url} (token {record.token}, ours is "
                            f"{self.token}); this run must not write any more")  # fmt: skip


class Lease:
    """A held lease; `acquire` makes one, `close` releases it. A daemon thread renews it."""

    def __init__(self, storage: Storage, record: Record, etag: str, clock: Clock) -> None:
        self._storage, self._record, self._etag, self._clock = storage, record, etag, clock
        self._renewed = clock.monotonic()
        self._lock = threading.Lock()
        self._lost: LeaseLost | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def token(self) -> int:
        return self._record.token

    def fence(self) -> Fence:
        """The proof of ownership for workers (can be pickled)."""
        return Fence(self._storage, self._record.token, self._record.holder.nonce)

    def check(self) -> None:
        """Raises LeaseLost where another owner is known or the last renewal is older than the time to live."""
        if self._lost is None and self._clock.monotonic() - self._renewed >= self._record.time_to_live:
            self._lost = LeaseLost(f"the lease of {self._storage.url} could not be renewed for "
                                   f"{self._record.time_to_live:g} s; another process may own the run now")  # fmt: skip
        if self._lost is not None:
            raise self._lost

    def renew(self) -> None:
        """One heartbeat. Raises LeaseLost where another owner took over, and what the storage raises."""
        with self._lock:
            self.check()
            # Counted from before the write: a slow write must not lengthen the lease beyond what others observe.
            began = self._clock.monotonic()
            following = replace(self._record, beat=self._record.beat + 1)
            try:
                etag = self._storage.write(PATH, following.encode(), if_match=self._etag)
            except Changed:
                etag = self._adopt(following)
            self._record, self._etag, self._renewed = following, etag, began

    def _adopt(self, following: Record) -> str:
        """A write whose answer was lost looks like somebody else's: see whose it is."""
        try:
            data, etag = _read(self._storage)
        except Missing:
            data, etag = None, ""
        if data is None or (data.token, data.holder.nonce) != (following.token, following.holder.nonce):
            who = "nobody" if data is None else f"{data.holder} (token {data.token})"
            self._lost = LeaseLost(f"{who} has taken over {self._storage.url}; this run must not write any more")
            raise self._lost
        return self._storage.write(PATH, following.encode(), if_match=etag)

    def start(self) -> Lease:
        """Renew in the background, four times per time to live."""
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        return self

    def _beat(self) -> None:
        while not self._stop.wait(self._record.time_to_live / 4):
            try:
                self.renew()
            except LeaseLost as error:
                log.error("%s", error)
                return
            except Exception as error:
                log.warning("lease not renewed: %s", error)

    def close(self) -> None:
        """Stop renewing and release, so that a successor need not wait."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._lost is None:
            try:
                self._storage.write(PATH, replace(self._record, released=True).encode(), if_match=self._etag)
            except Exception as error:
                log.warning("lease not released: %s", error)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(storage: Storage) -> tuple[Record, str]:
    while True:
        etag = storage.stat(PATH).etag
        try:
            return Record.decode(storage.read(PATH, etag=etag)), etag
        except Changed:
            continue


def acquire(
    storage: Storage, *, time_to_live: float = 20.0, patience: float | None = None, clock: Clock = time
) -> Lease:
    """Take the run's lease (not yet renewed in the background: call `start`).

    A lease that is released, or whose holder died on this machine, is taken at once. Any other is watched: where it
    does not change for its holder's time to live it is taken over. Raises LeaseHeld, naming the holder, as soon
    as the watched lease changes (its holder lives) or another contender is faster; with `patience` (seconds) the watch
    starts again until that time is over.
    """
    if time_to_live <= 0:
        raise UserError(f"a lease's time to live must be positive, not {time_to_live}")
    me = this_process()
    limit = clock.monotonic() + (patience or 0.0)
    while True:
        try:
            return _try_acquire(storage, me, time_to_live, clock)
        except LeaseHeld:
            if clock.monotonic() >= limit:
                raise


def _try_acquire(storage: Storage, me: Holder, time_to_live: float, clock: Clock) -> Lease:
    try:
        record, etag = _read(storage)
    except Missing:
        fresh = Record(me, 1, 0, time_to_live)
        return _take(storage, fresh, None, clock)
    if not record.released and not record.holder.is_dead_here():
        _watch(storage, record, etag, clock)
    return _take(storage, Record(me, record.token + 1, 0, time_to_live), etag, clock)


def _watch(storage: Storage, record: Record, etag: str, clock: Clock) -> None:
    seen = clock.monotonic()
    while clock.monotonic() - seen <= record.time_to_live:
        clock.sleep(record.time_to_live / 20)
        try:
            changed = storage.stat(PATH).etag != etag
        except Missing:
            changed = True
        if changed:
            raise LeaseHeld(f"{record.holder} is writing the run {storage.url} (its lease is being renewed): stop that "
                            "process first, or give this run another folder")  # fmt: skip


def _take(storage: Storage, record: Record, etag: str | None, clock: Clock) -> Lease:
    began = clock.monotonic()
    try:
        new = storage.write(PATH, record.encode(), if_absent=etag is None, if_match=etag)
    except Changed:
        # A write that landed but whose answer was lost, and that was sent again, fails on its own first try.
        current, new = _read(storage)
        if current.holder.nonce != record.holder.nonce:
            raise LeaseHeld(f"{current.holder} took the run {storage.url} at this moment: stop one of the "
                            "two") from None  # fmt: skip
    lease = Lease(storage, record, new, clock)
    lease._renewed = began
    return lease
