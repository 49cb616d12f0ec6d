"""Which checkpoints there are and which is the newest good one: by step, from manifests, with every byte checked.

No time of a file or host is ever compared. A folder without a manifest is not a checkpoint; one whose manifest or
files are not what was committed is damaged, is named, and is passed over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from data.storage import Missing, Storage
from orchestrator.checkpoint.format import (
    MANIFEST,
    ROOT,
    CheckpointDamaged,
    Manifest,
    parse_folder,
    path_in,
)

READERS = 4
"""Files read at once."""


@dataclass(frozen=True)
class Folder:
    """A checkpoint folder as listed: its step, attempt, and the names of the objects in it."""

    name: str
    step: int
    attempt: str
    objects: frozenset[str]

    @property
    def committed(self) -> bool:
        return MANIFEST in self.objects


@dataclass(frozen=True)
class Skipped:
    """A checkpoint that was passed over, and why."""

    folder: str
    step: int
    reason: str


@dataclass(frozen=True)
class Found:
    """The checkpoint taken and the newer ones that were passed over, newest first."""

    manifest: Manifest
    skipped: tuple[Skipped, ...]


def scan(storage: Storage) -> list[Folder]:
    """All checkpoint folders, newest step first (then attempt, in name order); foreign names are not looked at."""
    objects: dict[str, set[str]] = {}
    for path in storage.list(f"{ROOT}/"):
        folder, _, name = path.removeprefix(f"{ROOT}/").partition("/")
        objects.setdefault(folder, set()).add(name)
    folders = []
    for name, held in objects.items():
        parsed = parse_folder(name)
        if parsed is not None:
            folders.append(Folder(name, *parsed, frozenset(held)))
    return sorted(folders, key=lambda folder: (folder.step, folder.attempt), reverse=True)


def read_manifest(storage: Storage, folder: Folder) -> Manifest:
    """The manifest of a folder. Raises CheckpointDamaged where it is not whole or lists files that are not there."""
    try:
        manifest = Manifest.decode(storage.read(path_in(folder.name, MANIFEST)), folder.name)
    except Missing as error:
        raise CheckpointDamaged(f"{folder.name} has no manifest: it was never committed") from error
    lost = [file.name for file in manifest.files if file.name not in folder.objects]
    if lost:
        raise CheckpointDamaged(f"{folder.name} lacks {len(lost)} of its {len(manifest.files)} files, first {lost[0]}")
    return manifest


def verify(storage: Storage, manifest: Manifest) -> None:
    """Read and hash every file, a few at a time. Raises CheckpointDamaged that names the first bad one."""
    with ThreadPoolExecutor(READERS) as pool:
        futures = [pool.submit(_check, storage, manifest, number) for number in range(len(manifest.files))]
        try:
            for future in futures:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _check(storage: Storage, manifest: Manifest, number: int) -> None:
    read_whole(storage, manifest, number)


def newest(storage: Storage, *, deep: bool = True) -> Found | None:
    """The newest whole checkpoint, None where there is none at all; `deep` hashes its files as well.

    Raises CheckpointDamaged where checkpoints were committed and none of them is good.
    """
    skipped: list[Skipped] = []
    for folder in scan(storage):
        if not folder.committed:
            continue
        try:
            manifest = read_manifest(storage, folder)
            if deep:
                verify(storage, manifest)
        except CheckpointDamaged as error:
            skipped.append(Skipped(folder.name, folder.step, str(error)))
            continue
        return Found(manifest, tuple(skipped))
    if skipped:
        raise none_good(skipped)
    return None


def none_good(skipped: Sequence[Skipped]) -> CheckpointDamaged:
    reasons = "; ".join(skip.reason for skip in skipped)
    return CheckpointDamaged(f"none of the {len(skipped)} committed checkpoints is good: {reasons}")


def read_whole(storage: Storage, manifest: Manifest, number: int) -> bytes:
    """All bytes of a file, checked. Raises CheckpointDamaged where it is not what the manifest says."""
    file = manifest.files[number]
    data = read_range(storage, manifest, number, 0, None)
    if len(data) != file.size:
        raise CheckpointDamaged(f"{manifest.folder}/{file.name} has {len(data)} bytes, its manifest says {file.size}")
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        raise CheckpointDamaged(f"{manifest.folder}/{file.name} has SHA-256 {found[:12]}…, its manifest says "
                                f"{file.sha256[:12]}…")  # fmt: skip
    return data


def read_range(storage: Storage, manifest: Manifest, number: int, start: int, length: int | None) -> bytes:
    """Some bytes of a file. Raises CheckpointDamaged where they are not there."""
    name = manifest.files[number].name
    try:
        data = storage.read(path_in(manifest.folder, name), start=start, length=length)
    except Missing as error:
        raise CheckpointDamaged(f"{manifest.folder} has lost its file {name}") from error
    if length is not None and len(data) != length:
        raise CheckpointDamaged(f"{manifest.folder}/{name} ends early: {len(data)} bytes of {length} at {start}")
    return data
