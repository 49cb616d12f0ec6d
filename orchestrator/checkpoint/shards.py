"""What one rank writes: its parts of the tensors as safetensors files of bounded size, and its receipt.

Parts are packed into files of at most `part_bytes`, each built in memory and written with one atomic write: no
staging disk is needed, the memory beside the snapshot is bounded, and files can be verified by many ranks at once.
The digest is taken from the bytes in memory, so what the storage garbles on the way is found on reading.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from data.errors import UserError
from data.storage import Storage
from orchestrator.checkpoint.format import (
    CheckpointDamaged,
    Chunk,
    StoredChunk,
    StoredFile,
    StoredTensor,
    dtype_name,
    path_in,
    seal,
    unseal,
)

PART_BYTES = 32 << 20


def shard_file(rank: int, world: int, part: int) -> str:
    """`shard-00003-of-00008-000.safetensors`: the part-th file of a rank."""
    return f"{shard_prefix(rank, world)}-{part:03d}.safetensors"


def shard_prefix(rank: int, world: int) -> str:
    """How the names of all files of a rank begin."""
    return f"shard-{rank:05d}-of-{world:05d}"


def receipt_path(folder: str, rank: int, world: int) -> str:
    """Where `shard-00003-of-00008.json` lies, which a rank writes when all its files have landed."""
    return path_in(folder, f"{shard_prefix(rank, world)}.json")


@dataclass(frozen=True)
class Receipt:
    """What one rank has written, or why it could not; `scattered` is its share of the payload."""

    rank: int
    files: tuple[StoredFile, ...] = ()
    tensors: Mapping[str, StoredTensor] | None = None
    scattered: Mapping[str, Any] | None = None
    error: str = ""

    def encode(self) -> bytes:
        body = {
            "rank": self.rank,
            "files": self.files,
            "tensors": self.tensors or {},
            "scattered": self.scattered or {},
            "error": self.error,
        }
        return seal(body)

    @staticmethod
    def decode(data: bytes, path: str) -> Receipt:
        body = unseal(data, path)
        tensors = {
            name: StoredTensor(tuple(shape), dtype, tuple(StoredChunk(f, b, tuple(o), tuple(s)) for f, b, o, s in rows))
            for name, (shape, dtype, rows) in body["tensors"].items()
        }
        files = tuple(StoredFile(*row) for row in body["files"])
        return Receipt(int(body["rank"]), files, tensors, body["scattered"], str(body["error"]))


@dataclass(frozen=True)
class _Piece:
    name: str
    offsets: tuple[int, ...]
    data: torch.Tensor

    @property
    def key(self) -> str:
        return f"{self.name}@{','.join(map(str, self.offsets))}" if self.offsets else self.name


def _pieces(chunks: Mapping[str, Chunk], part_bytes: int) -> Iterator[_Piece]:
    for name in sorted(chunks):
        chunk = chunks[name]
        local = chunk.local
        if not chunk.is_owner or local.numel() == 0:
            continue
        if local.dim() == 0 or local.nbytes <= part_bytes:
            yield _Piece(name, chunk.offsets, local)
            continue
        rows = max(1, part_bytes * local.shape[0] // local.nbytes)
        for first in range(0, local.shape[0], rows):
            offsets = (chunk.offsets[0] + first, *chunk.offsets[1:])
            yield _Piece(name, offsets, local[first : first + rows])


def _parts(pieces: Iterator[_Piece], part_bytes: int) -> Iterator[list[_Piece]]:
    part: list[_Piece] = []
    filled = 0
    for piece in pieces:
        if part and filled + piece.data.nbytes > part_bytes:
            yield part
            part, filled = [], 0
        part.append(piece)
        filled += piece.data.nbytes
    if part:
        yield part


def _build(part: list[_Piece]) -> tuple[bytearray, dict[str, int]]:
    """The pieces as one safetensors file, and where each begins in it.

    The safetensors package copies while it holds the interpreter's lock, and would stall the training thread for as
    long; torch copies without it. Wider elements come first, so that all lie aligned, as the format asks.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    pieces = sorted(part, key=lambda piece: (-piece.data.itemsize, piece.key))
    end = 0
    for piece in pieces:
        begin, end = end, end + piece.data.nbytes
        entry = {"dtype": dtype_name(piece.data.dtype), "shape": list(piece.data.shape), "data_offsets": [begin, end]}
        header[piece.key] = entry
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    data = bytearray(start + end)
    data[:start] = len(text).to_bytes(8, "little") + text
    view = torch.frombuffer(data, dtype=torch.uint8)
    begins: dict[str, int] = {}
    for piece in pieces:
        begin, end = (start + offset for offset in header[piece.key]["data_offsets"])
        view[begin:end].copy_(piece.data.reshape(-1).view(torch.uint8))
        begins[piece.key] = begin
    return data, begins


def _write_part(storage: Storage, path: str, part: list[_Piece]) -> tuple[int, str, dict[str, int]]:
    """Size, SHA-256 and where each piece begins. The bytes live only while this runs."""
    data, begins = _build(part)
    storage.write(path, cast(bytes, data))
    return len(data), hashlib.sha256(data).hexdigest(), begins


def write_shard(
    storage: Storage,
    folder: str,
    rank: int,
    world: int,
    chunks: Mapping[str, Chunk],
    scattered: Mapping[str, Any],
    part_bytes: int = PART_BYTES,
    writers: int = 1,
) -> Receipt:
    """Write the parts that this rank owns (contiguous CPU tensors); returns what the receipt must say.

    Every rank names the tensors of which it saves a part, rank 0 all of them. `writers` files are written at once.
    Raises whatever the storage raises.
    """
    files: list[StoredFile] = []
    placed: dict[str, list[StoredChunk]] = {}
    with ThreadPoolExecutor(writers) as pool:
        parts = list(_parts(_pieces(chunks, part_bytes), part_bytes))
        names = [shard_file(rank, world, number) for number in range(len(parts))]
        futures = [
            pool.submit(_write_part, storage, path_in(folder, name), part)
            for name, part in zip(names, parts, strict=True)
        ]
        try:
            for number, future in enumerate(futures):
                size, digest, begins = future.result()
                files.append(StoredFile(names[number], size, digest))
                for piece in parts[number]:
                    stored = StoredChunk(number, begins[piece.key], piece.offsets, tuple(piece.data.shape))
                    placed.setdefault(piece.name, []).append(stored)
        finally:
            pool.shutdown(cancel_futures=True)
    tensors = {
        name: StoredTensor(tuple(chunk.global_shape), dtype_name(chunk.local.dtype), tuple(placed.get(name, ())))
        for name, chunk in chunks.items()
        if rank == 0 or name in placed
    }
    return Receipt(rank, tuple(files), tensors, scattered)


def merge(receipts: list[Receipt]) -> tuple[tuple[StoredFile, ...], dict[str, StoredTensor], dict[str, Any]]:
    """Files, tensors and scattered payload of all ranks as one.

    Raises CheckpointDamaged where a part of a tensor is held by no owner or by two, or where ranks disagree on a
    tensor's shape or dtype or on a scattered value: such a checkpoint must not be committed.
    """
    files: list[StoredFile] = []
    heads: dict[str, StoredTensor] = {}
    parts: dict[str, list[StoredChunk]] = {}
    scattered: dict[str, Any] = {}
    for receipt in sorted(receipts, key=lambda receipt: receipt.rank):
        shift = len(files)
        files.extend(receipt.files)
        for name, tensor in (receipt.tensors or {}).items():
            known = heads.setdefault(name, tensor)
            if (known.shape, known.dtype) != (tensor.shape, tensor.dtype):
                raise CheckpointDamaged(f"rank {receipt.rank} holds {name!r} as {tensor.dtype} {tensor.shape}, "
                                        f"another rank as {known.dtype} {known.shape}")  # fmt: skip
            moved = (StoredChunk(chunk.file + shift, *chunk[1:]) for chunk in tensor.chunks)
            parts.setdefault(name, []).extend(moved)
        for key, value in (receipt.scattered or {}).items():
            if scattered.setdefault(key, value) != value:
                raise CheckpointDamaged(f"ranks disagree on the payload {key!r}: {scattered[key]!r} and {value!r}")
    tensors = {name: head._replace(chunks=tuple(parts[name])) for name, head in heads.items()}
    for name, tensor in tensors.items():
        _require_cover(name, tensor)
    return tuple(files), tensors, scattered


def _require_cover(name: str, tensor: StoredTensor) -> None:
    """Every element once: chunks lie on the grid of their own edges, so counting grid cells is exact."""
    if math.prod(tensor.shape) == 0:
        return
    edges = [
        sorted({0, whole, *(e for c in tensor.chunks for e in (c.offsets[d], c.offsets[d] + c.sizes[d]))})
        for d, whole in enumerate(tensor.shape)
    ]
    place = [{edge: i for i, edge in enumerate(line)} for line in edges]
    cells = np.zeros([len(line) - 1 for line in edges], np.int32)
    for chunk in tensor.chunks:
        box = tuple(
            slice(place[d][offset], place[d][offset + size])
            for d, (offset, size) in enumerate(zip(chunk.offsets, chunk.sizes, strict=True))
        )
        cells[box] += 1
    if (cells == 0).any():
        raise CheckpointDamaged(f"no rank owns some part of {name!r}: exactly one holder must have is_owner set")
    if (cells > 1).any():
        raise CheckpointDamaged(f"two ranks own the same part of {name!r}: exactly one holder must have is_owner set")


def require_chunks(chunks: Mapping[str, Chunk]) -> None:
    """Raises UserError where a chunk does not lie inside its tensor."""
    for name, (shape, offsets, local, _) in chunks.items():
        dtype_name(local.dtype)
        sizes = tuple(local.shape)
        inside = len(shape) == len(offsets) == len(sizes) and all(
            o >= 0 and o + s <= w for w, o, s in zip(shape, offsets, sizes, strict=True)
        )
        if not inside and local.numel():
            raise UserError(f"the part of {name!r} at {offsets} with shape {sizes} is not inside shape {shape}")
