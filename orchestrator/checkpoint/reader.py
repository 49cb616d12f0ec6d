"""Loading a checkpoint into whatever layout the ranks have now: each rank reads the parts that overlap its own.

Every file that a load needs is hashed by at least one rank before the load counts as done; a rank that needs most of
a file reads it once and hashes what it uses.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from data.storage import Storage
from orchestrator.checkpoint.agreement import Group, from_first, gather, rank_and_world
from orchestrator.checkpoint.catalog import (
    READERS,
    Folder,
    Found,
    Skipped,
    none_good,
    read_manifest,
    read_range,
    read_whole,
    scan,
)
from orchestrator.checkpoint.format import (
    CheckpointDamaged,
    CheckpointMismatch,
    Chunk,
    Manifest,
    StoredChunk,
    dtype_name,
    dtype_of,
)

_JOIN_GAP = 1 << 20


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
        raise none_good(skipped)
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
        with ThreadPoolExecutor(READERS) as pool:
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
        data = read_whole(storage, manifest, number)
        for copy in copies:
            _copy(copy, data, 0)
        return
    for begin, end, group in _runs(copies):
        data = read_range(storage, manifest, number, begin, end - begin)
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
