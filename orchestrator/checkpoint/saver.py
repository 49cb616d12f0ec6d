"""Saving without waiting: copy to host memory, then write, hash and commit on a background thread.

How ranks agree that all shards have landed, without a collective: each rank writes a receipt after its last file;
rank 0's background thread looks for the receipts and then commits (see `commit.py`). A rank that fails leaves a
receipt with its error, so that rank 0 stops at once, or none, so that rank 0 stops at its deadline; either way there
is no manifest, the older checkpoints stand, and training goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from data.errors import UserError
from data.storage import Storage
from orchestrator.checkpoint.agreement import Group, gather
from orchestrator.checkpoint.catalog import verify
from orchestrator.checkpoint.commit import Clock, Committer, Fence
from orchestrator.checkpoint.format import MANIFEST, ROOT, Chunk, Kind, Manifest, folder_name, path_in
from orchestrator.checkpoint.retention import Collector, Keep, require_free
from orchestrator.checkpoint.shards import (
    PART_BYTES,
    Receipt,
    receipt_path,
    require_chunks,
    shard_prefix,
    write_shard,
)
from orchestrator.lease import LeaseLost

log = logging.getLogger(__name__)

Outcome = Literal["committed", "written", "failed", "collected"]

_COLLECT_PATIENCE = 5.0


class SavesFailing(UserError):
    """Too many saves in a row have failed: going on would risk too much work."""


@dataclass(frozen=True)
class SaveEvent:
    """How a save ended, for the ledger. "written" is what a rank other than 0 knows of a good one; "collected" names
    the folders that were deleted after one.

    `seconds` is the whole save, `stall_seconds` the time for which the training thread stood still, `size` the bytes
    written by this rank; `message` explains a failure.
    """

    outcome: Outcome
    step: int
    folder: str
    checkpoint: Kind
    seconds: float
    stall_seconds: float
    size: int = 0
    collected: tuple[str, ...] = ()
    message: str = ""


@dataclass
class _Save:
    step: int
    folder: str
    kind: Kind
    payload: Mapping[str, Any]
    scattered: Mapping[str, Any]
    chunks: dict[str, Chunk]
    started: float
    stall: float


class AsyncSaver:
    """Saves checkpoints of one run on one rank. All ranks call `begin` at the same steps in the same order.

    `attempt` names this start of the run and is the same on all ranks. `deadline` is how many seconds rank 0 waits for
    the other ranks' shards after its own. After more than `failures_allowed` failed saves in a row `begin` raises
    SavesFailing (on rank 0, which sees every failure). With `keep`, rank 0 deletes after each commit, in a thread of
    its own, what need not stay; `check` is how it makes sure of those that stay. Files of about `part_bytes` are
    written, `writers` at once: more where storage is far away.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        rank: int,
        world: int,
        attempt: str,
        fence: Fence | None = None,
        keep: Keep | None = None,
        check: Callable[[Storage, Manifest], None] = verify,
        deadline: float = 1800.0,
        failures_allowed: int = 3,
        part_bytes: int = PART_BYTES,
        writers: int = 2,
        clock: Clock = time,
    ) -> None:
        folder_name(0, attempt)
        self._storage, self._rank, self._world, self._attempt = storage, rank, world, attempt
        self._failures_allowed, self._clock = failures_allowed, clock
        self._part_bytes, self._writers = part_bytes, writers
        self._committer = Committer(storage, world, fence, deadline, clock)
        self._collector: Collector | None = None
        if keep is not None and rank == 0:
            self._collector = Collector(storage, keep, check=check, fence=None if fence is None else fence.check)
        self._serial = 0
        self._thread: threading.Thread | None = None
        self._collecting: threading.Thread | None = None
        self._buffers: dict[str, torch.Tensor] = {}
        self._events: list[SaveEvent] = []
        self._failures = 0
        self._fatal: UserError | None = None
        self.stall_seconds = 0.0

    @property
    def busy(self) -> bool:
        """Whether a save is in flight on this rank."""
        return self._thread is not None and self._thread.is_alive()

    def begin(
        self,
        step: int,
        chunks: Mapping[str, Chunk],
        payload: Mapping[str, Any],
        *,
        kind: Kind = "permanent",
        scattered: Mapping[str, Any] | None = None,
    ) -> float:
        """Take a snapshot and start to save it; returns the seconds for which the training thread stood still.

        `payload` is JSON; rank 0's is kept. `scattered` is what each rank knows alone (its lanes' cursors, keyed by
        lane): the union over ranks is kept as `payload["scattered"]`. A save still in flight is waited for first, and
        that wait counts as stall. Raises SavesFailing, or LeaseLost once another process has taken the run over.
        """
        started = self._clock.monotonic()
        self._join()
        if self._fatal is not None:
            raise self._fatal
        require_chunks(chunks)
        self._serial += 1
        folder = folder_name(step, f"{self._attempt}.{self._serial}")
        taken = self._snapshot(chunks)
        stall = self._clock.monotonic() - started
        self.stall_seconds += stall
        save = _Save(step, folder, kind, payload, scattered or {}, taken, started, stall)
        self._thread = threading.Thread(target=self._run, args=(save,), name=f"save-{folder}", daemon=True)
        self._thread.start()
        return stall

    def finish(self, group: Group = None) -> bool:
        """Wait for the save in flight; true where the last one was committed.

        Without a group a rank knows only about its own part (and rank 0 about the commit); with one all ranks return
        the same answer. Raises LeaseLost once another process has taken the run over.
        """
        self._join()
        if self._collecting is not None:
            # What is not collected now is collected later: a run that must end does not wait for it.
            self._collecting.join(_COLLECT_PATIENCE)
        good = all(gather(self._failures == 0, group))
        if isinstance(self._fatal, LeaseLost):
            raise self._fatal
        return good

    def events(self) -> list[SaveEvent]:
        """The saves that have ended since the last call."""
        taken: list[SaveEvent] = []
        while self._events:
            taken.append(self._events.pop(0))
        return taken

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _live(self) -> Callable[[str], bool]:
        """Which uncommitted folders may still be written to, from now on: those of the save in flight and of later
        ones of this attempt. All others are dead."""
        serial = self._serial

        def live(attempt: str) -> bool:
            start, _, number = attempt.rpartition(".")
            return start == self._attempt and number.isdecimal() and int(number) >= serial

        return live

    def _snapshot(self, chunks: Mapping[str, Chunk]) -> dict[str, Chunk]:
        taken: dict[str, Chunk] = {}
        cuda = False
        for name, chunk in chunks.items():
            local = chunk.local.detach()
            if not chunk.is_owner:
                taken[name] = chunk._replace(local=torch.empty(0, dtype=local.dtype))
                continue
            buffer = self._buffers.get(name)
            if buffer is None or buffer.shape != local.shape or buffer.dtype != local.dtype:
                buffer = torch.empty(local.shape, dtype=local.dtype, pin_memory=local.is_cuda)
                self._buffers[name] = buffer
            buffer.copy_(local, non_blocking=local.is_cuda)
            cuda = cuda or local.is_cuda
            taken[name] = chunk._replace(local=buffer)
        if cuda:
            torch.cuda.current_stream().synchronize()
        return taken

    def _run(self, save: _Save) -> None:
        receipt: Receipt | None = None
        unseen = True
        try:
            if self._collector is not None:
                # Before anything is written: on a full disk the remains of a failed save would keep it full.
                self._collector.collect_orphans(self._live())
            require_free(self._storage, sum(c.local.nbytes for c in save.chunks.values() if c.is_owner))
            receipt = write_shard(self._storage, save.folder, self._rank, self._world, save.chunks,
                                  save.scattered, self._part_bytes, self._writers)  # fmt: skip
            if self._rank == 0:
                self._committer.commit(save.folder, save.kind, save.payload, receipt)
            else:
                unseen = False
                self._storage.write(receipt_path(save.folder, self._rank, self._world), receipt.encode())
        except Exception as error:
            self._failed(save, error, receipt)
            if unseen:
                self._withdraw(save, self._events[-1].message)
            return
        self._failures = 0
        self._record(save, "committed" if self._rank == 0 else "written", receipt)
        if self._collector is not None and (self._collecting is None or not self._collecting.is_alive()):
            # Beside the next save, never before it: making sure of those that stay means reading them.
            self._collecting = threading.Thread(
                target=self._collect, args=(self._collector, save), name="collect", daemon=True
            )
            self._collecting.start()

    def _collect(self, collector: Collector, save: _Save) -> None:
        started = self._clock.monotonic()
        try:
            gone = collector.collect(self._live())
        except Exception as error:
            log.warning("nothing collected after %s: %s", save.folder, error)
            return
        if gone:
            seconds = self._clock.monotonic() - started
            self._events.append(SaveEvent("collected", save.step, save.folder, save.kind, seconds, 0.0, 0, tuple(gone)))

    def _failed(self, save: _Save, error: Exception, receipt: Receipt | None) -> None:
        message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        message = f"the checkpoint of step {save.step} was not saved on rank {self._rank}: {message}"
        self._failures += 1
        if isinstance(error, LeaseLost):
            self._fatal = error
        elif self._failures > self._failures_allowed:
            self._fatal = SavesFailing(f"{self._failures} saves in a row have failed; the last: {message}")
        self._record(save, "failed", receipt, message)

    def _withdraw(self, save: _Save, message: str) -> None:
        """Take back this rank's files and tell rank 0. Never after a receipt may have been seen: what rank 0 counts
        on must stay. Room comes first: on a full disk the receipt fits only where the shards have gone."""
        try:
            if self._rank == 0:
                self._storage.delete(path_in(save.folder, MANIFEST))
            for path in self._storage.list(f"{ROOT}/{save.folder}/{shard_prefix(self._rank, self._world)}"):
                self._storage.delete(path)
            if self._rank != 0:
                path = receipt_path(save.folder, self._rank, self._world)
                self._storage.write(path, Receipt(self._rank, error=message).encode())
        except Exception as error:
            log.warning("the remains of %s stay until the next collection: %s", save.folder, error)

    def _record(
        self,
        save: _Save, outcome: Outcome, receipt: Receipt | None, message: str = ""
    ) -> None:
        seconds = self._clock.monotonic() - save.started
        size = 0 if receipt is None else sum(file.size for file in receipt.files)
        event = SaveEvent(outcome, save.step, save.folder, save.kind, seconds, save.stall, size, (), message)
        self._events.append(event)
