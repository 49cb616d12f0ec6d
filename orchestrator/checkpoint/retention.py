"""Which checkpoints stay: permanent ones by rule, ephemeral ones until newer ones stand, never fewer than two good.

A checkpoint goes in two moves: first its manifest (from then on it does not exist for any reader), then its files.
A crash between the two leaves an orphan, a folder without a manifest, which the next collection takes.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data.errors import UserError
from data.storage import LocalStorage, Storage
from orchestrator.checkpoint.catalog import Folder, read_manifest, scan, verify
from orchestrator.checkpoint.format import MANIFEST, ROOT, CheckpointDamaged, Kind, Manifest, path_in

FLOOR = 2


@dataclass(frozen=True)
class Keep:
    """How many permanent checkpoints stay (None: all) and how many ephemeral ones newer than the last permanent."""

    permanent: int | None = None
    ephemeral: int = 1

    def __post_init__(self) -> None:
        if (self.permanent is not None and self.permanent < 1) or self.ephemeral < 0:
            raise UserError(f"keep at least one permanent checkpoint and no negative number of ephemeral ones: {self}")


@dataclass(frozen=True)
class Held:
    """A committed checkpoint as retention sees it. `kind` is None where the manifest cannot be read."""

    folder: str
    step: int
    kind: Kind | None
    good: bool


def superfluous(held: Sequence[Held], keep: Keep) -> list[str]:
    """Folders that may go, oldest first; `held` is newest first. The newest two good ones never do.

    A damaged one goes once two good ones are newer; until then it stays, for whoever wants to look.
    """
    permanent = ephemeral = good = 0
    drop: list[str] = []
    for checkpoint in held:
        protected = good < FLOOR
        if not checkpoint.good or checkpoint.kind is None:
            stays = protected
        elif checkpoint.kind == "permanent":
            permanent += 1
            stays = keep.permanent is None or permanent <= keep.permanent
        else:
            ephemeral += 1
            stays = permanent == 0 and ephemeral <= keep.ephemeral
        good += checkpoint.good
        if not stays and not protected:
            drop.append(checkpoint.folder)
    return drop[::-1]


class Collector:
    """Deletes what need not stay; one per run, on the process that holds the lease.

    Before anything is deleted, `check` is asked about the two newest that stay; it raises CheckpointDamaged for a bad
    one. By default it reads and hashes every file, once per checkpoint and process. `live(attempt)` says whether an
    uncommitted folder of that attempt may still be written to; what it says must not change during the call, as
    it is asked about what was listed before.
    """

    def __init__(
        self,
        storage: Storage,
        keep: Keep,
        *,
        check: Callable[[Storage, Manifest], None] = verify,
        fence: Callable[[], None] | None = None,
    ) -> None:
        self._storage, self._keep, self._check, self._fence = storage, keep, check, fence
        self._known_good: set[str] = set()

    def collect(self, live: Callable[[str], bool], *, dry_run: bool = False) -> list[str]:
        """Delete, and return the folders that went (or would go). Safe to break off and to repeat at any point."""
        folders = scan(self._storage)
        committed = [folder for folder in folders if folder.committed]
        drop = superfluous(self._held(committed, deep=False), self._keep)
        if drop:
            drop = superfluous(self._held(committed, deep=True), self._keep)
        goes = set(drop) | {folder.name for folder in _orphans(folders, live)}
        if not dry_run:
            self._remove([folder for folder in folders if folder.name in goes])
        return sorted(goes)

    def collect_orphans(self, live: Callable[[str], bool]) -> list[str]:
        """Delete only uncommitted folders that nobody writes to any more."""
        orphans = _orphans(scan(self._storage), live)
        self._remove(orphans)
        return [folder.name for folder in orphans]

    def _remove(self, folders: Sequence[Folder]) -> None:
        if self._fence is not None and folders:
            self._fence()
        for folder in reversed(folders):
            remove(self._storage, folder.name, folder.objects)

    def _held(self, folders: Sequence[Folder], *, deep: bool) -> list[Held]:
        """What retention sees; `deep` reads the newest ones through until the floor is known to be sound."""
        held: list[Held] = []
        good = 0
        for folder in folders:
            try:
                manifest = read_manifest(self._storage, folder)
                if deep and good < FLOOR and folder.name not in self._known_good:
                    self._check(self._storage, manifest)
                    self._known_good.add(folder.name)
            except CheckpointDamaged:
                held.append(Held(folder.name, folder.step, None, False))
                continue
            good += 1
            held.append(Held(folder.name, folder.step, manifest.kind, True))
        return held


def _orphans(folders: Sequence[Folder], live: Callable[[str], bool]) -> list[Folder]:
    return [folder for folder in folders if not folder.committed and not live(folder.attempt)]


def remove(storage: Storage, folder: str, objects: frozenset[str]) -> None:
    """Uncommit a checkpoint, then delete its files, and what a killed writer left beside them on a local disk."""
    if MANIFEST in objects:
        storage.delete(path_in(folder, MANIFEST))
    for name in sorted(objects - {MANIFEST}):
        storage.delete(path_in(folder, name))
    if isinstance(storage, LocalStorage):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(storage.root / ROOT / folder)


def free_bytes(storage: Storage) -> int | None:
    """Free bytes on a local disk; None where the storage has no such limit that one could ask for."""
    if not isinstance(storage, LocalStorage):
        return None
    place = storage.root
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def require_free(storage: Storage, size: int) -> None:
    """Raises UserError where a local disk has no room for `size` bytes."""
    free = free_bytes(storage)
    if free is not None and free < size:
        raise UserError(f"{storage.url} has {free / 1e9:.2f} GB free and {size / 1e9:.2f} GB are to be written: free "
                        "some space")  # fmt: skip


def require_space(storage: Storage, checkpoint_bytes: int, keep: Keep) -> None:
    """Raises UserError where the disk cannot hold what `keep` asks for and the checkpoint in flight."""
    free = free_bytes(storage)
    count = FLOOR + 1 if keep.permanent is None else max(FLOOR, keep.permanent + keep.ephemeral) + 1
    if free is not None and free < count * checkpoint_bytes:
        raise UserError(
            f"{storage.url} has {free / 1e9:.2f} GB free; {count} checkpoints of {checkpoint_bytes / 1e9:.2f} GB need "
            f"{count * checkpoint_bytes / 1e9:.2f} GB: free some space, keep fewer, or choose another run folder"
        )
