"""Finding and loading checkpoints: newest by step, verified, into whatever layout the ranks have now.

No time of a file or host is ever compared. Every file that a load needs is hashed by at least one rank before
the load counts as done; a rank that needs most of a file reads it once and hashes what it uses.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from data.storage import Missing, Storage
from orchestrator.checkpoint.agreement import Group, from_first, gather, rank_and_world
from orchestrator.checkpoint.format import (
    MANIFEST,
    ROOT,
    CheckpointDamaged,
    CheckpointMismatch,
    Chunk,
    Manifest,
    StoredChunk,
    dtype_name,
    dtype_of,
    parse_folder,
    path_in,
)

_READERS = 4
_JOIN_GAP = 1 << 20


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
    """Read and hash every file. Raises CheckpointDamaged that names the first bad one."""
    for number in range(len(manifest.files)):
        _whole(storage, manifest, number)


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
        raise _none_good(skipped)
    return None


def _none_good(skipped: Sequence[Skipped]) -> CheckpointDamaged:
    reasons = "; ".join(skip.reason for skip in skipped)
    return CheckpointDamaged(f"none of the {len(skipped)} committed checkpoints is good: {reasons}")


def resume(
    storage: Storage,
    chunks: Mapping[str, Chunk],
    group: Group = None,
    *,
    accept: Callable[[Manifest], None] | None = None,
) -> Found | None:
    """Load the newest good checkpoint into `chunks`, in place; None (and nothing touched) where there is none.

    `accept` raises for a checkpoint that does not belong to this run (see `compare.py`); that error is not damage
    and is not passed over. Raises CheckpointDamaged where all committed ones are damaged. All ranks return or
    raise alike.
    """
    folders: list[Folder] = []

    def count() -> int:
        folders.extend(folder for folder in scan(storage) if folder.committed)
        return len(folders)

    def offer(number: int) -> list[str | int]:
        return _offer(storage, folders[number])

    skipped: list[Skipped] = []
    for number in range(from_first(count, group)):
        name, step, text, reason = from_first(functools.partial(offer, number), group)
        if not reason:
            manifest = Manifest.decode(text.encode(), name)
            if accept is not None:
                accept(manifest)
            try:
                load(storage, manifest, chunks, group)
            except CheckpointDamaged as error:
                reason = str(error)
            else:
                return Found(manifest, tuple(skipped))
        skipped.append(Skipped(name, step, reason))
    if skipped:
        raise _none_good(skipped)
    return None


def _offer(storage: Storage, folder: Folder) -> list[str | int]:
    """Name, step and manifest text of a folder, or the reason why it is passed over."""
    try:
        return [folder.name, folder.step, read_manifest(storage, folder).encode().decode(), ""]
    except CheckpointDamaged as error:
        return [folder.name, folder.step, "", str(error)]


def load(
    storage: Storage,
    manifest: Manifest,
    chunks: Mapping[str, Chunk],
    group: Group = None,
    *,
    partial: bool = False,
) -> None:
    """Fill the local tensors of `chunks` in place from a checkpoint of any layout.

    `partial` lets the checkpoint hold more tensors than are asked for. Raises CheckpointMismatch where names, shapes or
    dtypes differ, CheckpointDamaged where a file is not what the manifest says (the tensors are then half filled
    and must be loaded from another checkpoint). All ranks return or raise alike.
    """
    _require_same(manifest, chunks, partial)
    rank, world = rank_and_world(group)
    used = sorted({chunk.file for name in chunks for chunk in manifest.tensors[name].chunks})
    wanted = _wanted(manifest, chunks)
    whole = {n for n, copies in wanted.items() if 2 * sum(c.length for c in copies) >= manifest.files[n].size}
    read_whole = {n for row in gather(sorted(whole), group) for n in row}
    unread = [n for n in used if n not in read_whole]
    whole.update(unread[rank::world])
    damage, failure = "", ""
    try:
        with ThreadPoolExecutor(_READERS) as pool:
            for _ in pool.map(lambda n: _fill(storage, manifest, n, wanted.get(n, []), n in whole),
                              sorted(whole | wanted.keys())):  # fmt: skip
                pass
    except CheckpointDamaged as error:
        damage = str(error)
    except Exception as error:
        failure = f"rank {rank}: {type(error).__name__}: {error}"
    outcomes = gather([damage, failure], group)
    failed = [text for _, text in outcomes if text]
    if failed:
        raise OSError(f"{manifest.folder} could not be read: {failed[0]}")
    damaged = list(dict.fromkeys(text for text, _ in outcomes if text))
    if damaged:
        raise CheckpointDamaged("; ".join(damaged))


def _require_same(manifest: Manifest, chunks: Mapping[str, Chunk], partial: bool) -> None:
    absent = sorted(chunks.keys() - manifest.tensors.keys())
    extra = [] if partial else sorted(manifest.tensors.keys() - chunks.keys())
    for names, what in ((absent, "does not hold"), (extra, "holds, and this model lacks,")):
        if names:
            raise CheckpointMismatch(f"{manifest.folder} {what} {len(names)} tensors, first {names[0]!r}: it belongs "
                                     "to another architecture or optimizer")  # fmt: skip
    for name, chunk in chunks.items():
        stored = manifest.tensors[name]
        if stored.shape != tuple(chunk.global_shape) or stored.dtype != dtype_name(chunk.local.dtype):
            raise CheckpointMismatch(
                f"{manifest.folder} holds {name!r} as {stored.dtype} {stored.shape}, this run has it as "
                f"{dtype_name(chunk.local.dtype)} {tuple(chunk.global_shape)}")  # fmt: skip


@dataclass(frozen=True)
class _Copy:
    """Rows of a stored part (bytes [begin, begin+length) of the file), of which `inner` goes to `target`."""

    begin: int
    length: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    inner: tuple[slice, ...]
    target: torch.Tensor


def _wanted(manifest: Manifest, chunks: Mapping[str, Chunk]) -> dict[int, list[_Copy]]:
    by_file: dict[int, list[_Copy]] = {}
    for name, chunk in chunks.items():
        stored = manifest.tensors[name]
        if chunk.local.numel() == 0:
            continue
        for part in stored.chunks:
            copy = _overlap(part, chunk, dtype_of(stored.dtype))
            if copy is not None:
                by_file.setdefault(part.file, []).append(copy)
    return by_file


def _overlap(part: StoredChunk, chunk: Chunk, dtype: torch.dtype) -> _Copy | None:
    inner: list[slice] = []
    outer: list[slice] = []
    for theirs, size, ours, width in zip(part.offsets, part.sizes, chunk.offsets, chunk.local.shape, strict=True):
        first, last = max(theirs, ours), min(theirs + size, ours + width)
        if first >= last:
            return None
        inner.append(slice(first - theirs, last - theirs))
        outer.append(slice(first - ours, last - ours))
    row = math.prod(part.sizes[1:]) * dtype.itemsize
    if not part.sizes:
        return _Copy(part.begin, row, (), dtype, (), chunk.local.detach())
    skip, rows = inner[0].start, inner[0].stop - inner[0].start
    shape = (rows, *part.sizes[1:])
    return _Copy(part.begin + skip * row, rows * row, shape, dtype, (slice(None), *inner[1:]),
                 chunk.local.detach()[tuple(outer)])  # fmt: skip


def _fill(storage: Storage, manifest: Manifest, number: int, copies: list[_Copy], whole: bool) -> None:
    if whole:
        data = _whole(storage, manifest, number)
        for copy in copies:
            _copy(copy, data, 0)
        return
    for begin, end, group in _runs(copies):
        data = _read(storage, manifest, number, begin, end - begin)
        for copy in group:
            _copy(copy, data, begin)


def _runs(copies: list[_Copy]) -> Iterator[tuple[int, int, list[_Copy]]]:
    """Reads that lie close together become one."""
    run: list[_Copy] = []
    for copy in sorted(copies, key=lambda copy: copy.begin):
        if run and copy.begin > max(c.begin + c.length for c in run) + _JOIN_GAP:
            yield run[0].begin, max(c.begin + c.length for c in run), run
            run = []
        run.append(copy)
    if run:
        yield run[0].begin, max(c.begin + c.length for c in run), run


def _copy(copy: _Copy, data: bytes, base: int) -> None:
    view = memoryview(data)[copy.begin - base : copy.begin - base + copy.length]
    rows = torch.frombuffer(bytearray(view), dtype=torch.uint8).view(copy.dtype).reshape(copy.shape)
    copy.target.copy_(rows[copy.inner])


def _whole(storage: Storage, manifest: Manifest, number: int) -> bytes:
    file = manifest.files[number]
    data = _read(storage, manifest, number, 0, None)
    if len(data) != file.size:
        raise CheckpointDamaged(f"{manifest.folder}/{file.name} has {len(data)} bytes, its manifest says {file.size}")
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        raise CheckpointDamaged(f"{manifest.folder}/{file.name} has SHA-256 {found[:12]}…, its manifest says "
                                f"{file.sha256[:12]}…")  # fmt: skip
    return data


def _read(storage: Storage, manifest: Manifest, number: int, start: int, length: int | None) -> bytes:
    name = manifest.files[number].name
    try:
        data = storage.read(path_in(manifest.folder, name), start=start, length=length)
    except Missing as error:
        raise CheckpointDamaged(f"{manifest.folder} has lost its file {name}") from error
    if length is not None and len(data) != length:
        raise CheckpointDamaged(f"{manifest.folder}/{name} ends early: {len(data)} bytes of {length} at {start}")
    return data
