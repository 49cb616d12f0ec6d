"""Rank 0's part of a save: wait for every rank's receipt, then write the manifest that makes the checkpoint exist.

Nothing here is a collective, so nothing can hang a training thread: ranks meet in storage alone. The manifest is
written only where none is, between two looks at the lease: a run that was taken over while it saved withdraws.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from data.errors import UserError
from data.storage import Storage
from orchestrator.checkpoint.format import MANIFEST, Kind, Manifest, parse_folder, path_in
from orchestrator.checkpoint.shards import Receipt, merge, receipt_path
from orchestrator.lease import LeaseLost

log = logging.getLogger(__name__)

_PAUSES = (0.02, 1.0)


class Fence(Protocol):
    """Proof of ownership of the run: `token` grows with each owner; `check` raises when another owner took over."""

    @property
    def token(self) -> int: ...

    def check(self) -> None: ...


class Clock(Protocol):
    """Monotonic seconds and sleep; tests replace it."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


@dataclass(frozen=True)
class Committer:
    """Commits checkpoints of `world` ranks; `deadline` is how many seconds the other ranks' shards may take longer."""

    storage: Storage
    world: int
    fence: Fence | None
    deadline: float = 1800.0
    clock: Clock = time

    def commit(self, folder: str, kind: Kind, payload: Mapping[str, Any], own: Receipt) -> Manifest:
        """Wait for the receipts and write the manifest.

        Raises UserError (a rank reported an error or was too late), CheckpointDamaged (the parts do not make whole
        tensors), LeaseLost, and what the storage raises; there is no manifest then.
        """
        step, attempt = parse_folder(folder) or (0, "")
        files, tensors, scattered = merge([own, *self._await(folder)])
        token = 0 if self.fence is None else self.fence.token
        created = datetime.now(UTC).isoformat(timespec="seconds")
        full = {**payload, "scattered": scattered}
        manifest = Manifest(step, attempt, kind, token, created, full, files, tensors)
        if self.fence is not None:
            self.fence.check()
        path = path_in(folder, MANIFEST)
        self._put(path, manifest.encode())
        if self.fence is not None:
            try:
                self.fence.check()
            except LeaseLost:
                self.storage.delete(path)
                raise
            except Exception as error:
                log.warning("lease not seen after the commit of %s: %s", folder, error)
        self._drop_receipts(folder)
        return manifest

    def _put(self, path: str, data: bytes) -> None:
        """A write whose answer was lost raises although the manifest landed: look before calling it a failure."""
        try:
            self.storage.write(path, data, if_absent=True)
        except Exception:
            if not self._holds(path, data):
                raise

    def _holds(self, path: str, data: bytes) -> bool:
        try:
            return self.storage.read(path) == data
        except Exception:
            return False

    def _await(self, folder: str) -> list[Receipt]:
        missing = set(range(1, self.world))
        found: list[Receipt] = []
        limit = self.clock.monotonic() + self.deadline
        pause = _PAUSES[0]
        with ThreadPoolExecutor(min(16, self.world)) as pool:
            while missing:
                # One listing a look, not a request for each rank that is still writing.
                landed = set(self.storage.list(path_in(folder, "")))
                ranks = [rank for rank in sorted(missing) if receipt_path(folder, rank, self.world) in landed]
                for receipt in pool.map(lambda rank: self._receipt(folder, rank), ranks):
                    missing.discard(receipt.rank)
                    found.append(receipt)
                errors = [receipt.error for receipt in found if receipt.error]
                if errors:
                    raise UserError(errors[0])
                if missing and self.clock.monotonic() >= limit:
                    names = ", ".join(map(str, sorted(missing)[:8]))
                    raise UserError(f"the shards of {len(missing)} of {self.world} ranks (first {names}) had not "
                                    f"landed {self.deadline:g} s after those of rank 0")  # fmt: skip
                if missing:
                    self.clock.sleep(pause)
                    pause = min(1.5 * pause, _PAUSES[1])
        return found

    def _receipt(self, folder: str, rank: int) -> Receipt:
        path = receipt_path(folder, rank, self.world)
        return Receipt.decode(self.storage.read(path), path)

    def _drop_receipts(self, folder: str) -> None:
        """The manifest has taken over what they say; one that stays goes with its folder."""
        try:
            for rank in range(self.world):
                self.storage.delete(receipt_path(folder, rank, self.world))
        except Exception as error:
            log.warning("receipts of %s stay: %s", folder, error)
