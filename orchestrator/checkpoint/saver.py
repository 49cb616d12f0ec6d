"""Saving without waiting: copy to host memory, then write, hash and commit on a background thread.

How ranks agree that all shards have landed, without a collective that a training thread could hang in: each rank
writes a receipt after its last file; rank 0's background thread looks for the receipts, checks that together they
cover every tensor exactly once, asks the lease whether this run still owns the folder, and writes the manifest.
A rank that fails leaves a receipt with its error (so that rank 0 stops at once) or none (so that rank 0 stops at
its deadline); either way there is no manifest, the older checkpoints stand, and training goes on.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import torch

from data.errors import UserError
from data.storage import Missing, Storage
from orchestrator.checkpoint.agreement import Group, gather
from orchestrator.checkpoint.format import MANIFEST, Chunk, Kind, Manifest, folder_name, path_in
from orchestrator.checkpoint.shards import (
    PART_BYTES,
    Receipt,
    merge,
    receipt_file,
    require_chunks,
    write_shard,
)
from orchestrator.lease import LeaseLost

log = logging.getLogger(__name__)


Outcome = Literal["committed", "written", "failed"]


class Fence(Protocol):
    """Proof of ownership of the run: `token` grows with each owner; `check` raises when another owner took over."""

    @property
    def token(self) -> int: ...

    def check(self) -> None: ...


class SavesFailing(UserError):
    """Too many saves in a row have failed: going on would risk too much work."""


@dataclasses.dataclass(frozen=True)
class SaveEvent:
    """How a save ended, for the ledger: seconds of the whole save, seconds the training thread stood still, bytes
    written by this rank, and for a failure one sentence."""

    outcome: Outcome
    step: int
    folder: str
    kind: Kind
    seconds: float
    stall_seconds: float
    bytes: int
    message: str = ""


@dataclasses.dataclass
class _Save:
    step: int
    folder: str
    kind: Kind
    payload: Mapping[str, Any]
    scattered: Mapping[str, Any]
    chunks: dict[str, Chunk]
    started: float
    stall: float = 0.0


class Deadline(Protocol):
    """Time as the saver sees it; tests replace it."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


class AsyncSaver:
    """Saves checkpoints of one run on one rank. All ranks call `begin` at the same steps in the same order.

    `attempt` names this start of the run and is the same on all ranks. `deadline` is how many seconds rank 0 waits for
    the other ranks' shards after its own. After `failures_allowed` failed saves in a row `begin` raises SavesFailing
    (on rank 0, which sees all failures). `after_commit` runs on rank 0's background thread with each new manifest.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        rank: int,
        world: int,
        attempt: str,
        fence: Fence | None = None,
        deadline: float = 1800.0,
        failures_allowed: int = 3,
        part_bytes: int = PART_BYTES,
        after_commit: Callable[[Manifest], None] | None = None,
        clock: Deadline = time,
    ) -> None:
        folder_name(0, attempt)
        self._storage, self._rank, self._world, self._attempt = storage, rank, world, attempt
        self._fence, self._deadline, self._part_bytes = fence, deadline, part_bytes
        self._failures_allowed, self._after_commit, self._clock = failures_allowed, after_commit, clock
        self._serial = 0
        self._thread: threading.Thread | None = None
        self._buffers: dict[str, torch.Tensor] = {}
        self._events: list[SaveEvent] = []
        self._failures: list[str] = []
        self._fatal: UserError | None = None
        self._last_good = True
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
        that wait counts as stall. Raises SavesFailing, or the lease's error once another owner has taken over.
        """
        started = self._clock.monotonic()
        self._join()
        if self._fatal is not None:
            raise self._fatal
        require_chunks(chunks)
        self._serial += 1
        folder = folder_name(step, f"{self._attempt}.{self._serial}")
        save = _Save(step, folder, kind, payload, scattered or {}, self._snapshot(chunks), started)
        save.stall = self._clock.monotonic() - started
        self.stall_seconds += save.stall
        self._thread = threading.Thread(target=self._run, args=(save,), name=f"save-{folder}", daemon=True)
        self._thread.start()
        return save.stall

    def finish(self, group: Group = None) -> bool:
        """Wait for the save in flight; true where the last one was committed.

        Without a group a rank knows only about its own part (and rank 0 about the commit); with one all ranks return
        the same answer.
        """
        self._join()
        return all(gather(self._last_good, group))

    def events(self) -> list[SaveEvent]:
        """The saves that have ended since the last call."""
        taken, self._events = self._events, []
        return taken

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

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
        size = 0
        try:
            receipt = write_shard(self._storage, save.folder, self._rank, self._world, save.chunks,
                                  save.scattered, self._part_bytes)  # fmt: skip
            size = sum(file.size for file in receipt.files)
            manifest = self._commit(save, receipt) if self._rank == 0 else None
        except Exception as error:
            self._failed(save, error, size)
            return
        self._last_good = True
        self._failures.clear()
        self._record(save, "written" if manifest is None else "committed", size)
        if manifest is not None and self._after_commit is not None:
            try:
                self._after_commit(manifest)
            except Exception:
                log.exception("after the commit of %s", save.folder)

    def _failed(self, save: _Save, error: Exception, size: int) -> None:
        message = f"checkpoint of step {save.step} not saved on rank {self._rank}: {type(error).__name__}: {error}"
        self._last_good = False
        self._failures.append(message)
        if isinstance(error, LeaseLost):
            self._fatal = error
        elif len(self._failures) > self._failures_allowed:
            self._fatal = SavesFailing(f"{len(self._failures)} saves in a row have failed, the last: {message}")
        self._record(save, "failed", size, message)
        path = path_in(save.folder, receipt_file(self._rank, self._world))
        try:
            self._storage.write(path, Receipt(self._rank, error=message).encode())
        except Exception as second:
            log.warning("no failure receipt at %s: %s", path, second)

    def _record(self, save: _Save, outcome: Outcome, size: int, message: str = "") -> None:
        seconds = self._clock.monotonic() - save.started
        self._events.append(SaveEvent(outcome, save.step, save.folder, save.kind, seconds, save.stall, size, message))

    def _commit(self, save: _Save, own: Receipt) -> Manifest:
        receipts = [own, *self._await_receipts(save.folder)]
        files, tensors, scattered = merge(receipts)
        payload = dict(save.payload) | {"scattered": scattered}
        token = 0 if self._fence is None else self._fence.token
        parsed = save.folder.rsplit("-", 1)[1]
        manifest = Manifest(save.step, parsed, save.kind, token, datetime.now(UTC).isoformat(timespec="seconds"),
                            payload, files, tensors)  # fmt: skip
        path = path_in(save.folder, MANIFEST)
        data = manifest.encode()
        if self._fence is not None:
            self._fence.check()
        self._storage.write(path, data, if_absent=True)
        if self._fence is not None:
            try:
                self._fence.check()
            except Exception:
                self._storage.delete(path)
                raise
        self._drop_receipts(save.folder)
        return manifest

    def _await_receipts(self, folder: str) -> list[Receipt]:
        missing = dict.fromkeys(range(1, self._world))
        found: list[Receipt] = []
        limit = self._clock.monotonic() + self._deadline
        pause = 0.02
        with ThreadPoolExecutor(min(16, self._world)) as pool:
            while missing:
                for receipt in pool.map(lambda rank: self._receipt(folder, rank), list(missing)):
                    if receipt is not None:
                        if receipt.error:
                            raise UserError(receipt.error)
                        missing.pop(receipt.rank)
                        found.append(receipt)
                if not missing:
                    break
                if self._clock.monotonic() > limit:
                    names = ", ".join(map(str, list(missing)[:8]))
                    raise UserError(f"the shards of ranks {names} had not landed after {self._deadline:g} s")
                self._clock.sleep(pause)
                pause = min(1.0, pause * 1.5)
        return found

    def _receipt(self, folder: str, rank: int) -> Receipt | None:
        path = path_in(folder, receipt_file(rank, self._world))
        try:
            return Receipt.decode(self._storage.read(path), path)
        except Missing:
            return None

    def _drop_receipts(self, folder: str) -> None:
        """The manifest has taken over what they say; one that stays is collected with its folder."""
        try:
            for rank in range(self._world):
                self._storage.delete(path_in(folder, receipt_file(rank, self._world)))
        except Exception as error:
            log.warning("receipts of %s stay: %s", folder, error)
