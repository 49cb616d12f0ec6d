"""The form of a checkpoint on storage: which files there are, what the manifest says, how it is checked.

A checkpoint is the folder `checkpoints/step-<9 digits>-<attempt>/`. It holds safetensors files, each written by
one rank, and `manifest.json`, written last: where the manifest is, the checkpoint is whole. The manifest
holds the size and SHA-256 of every file and a digest of itself, so that no damaged byte passes for a good one.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import torch

from data.errors import UserError

ROOT = "checkpoints"
MANIFEST = "manifest.json"
VERSION = 1

Kind = Literal["permanent", "ephemeral"]

_FOLDER = re.compile(r"step-(\d{9})-([a-z0-9][a-z0-9.]*)")
_FILE = re.compile(r"shard-\d{5}-of-\d{5}-\d{3,}\.safetensors")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class CheckpointDamaged(UserError):
    """A checkpoint is not what its manifest says, or its manifest cannot be read."""


class CheckpointMismatch(UserError):
    """A checkpoint is whole but belongs to another model, vocabulary or configuration."""


class Chunk(NamedTuple):
    """The part of one global tensor that this rank holds.

    `global_shape` is the shape of the whole tensor; `local` lies at `offsets` in it (one number per dimension) and
    may be empty. `is_owner` is true on exactly one of the ranks that hold the same part: that one saves it.
    """

    global_shape: tuple[int, ...]
    offsets: tuple[int, ...]
    local: torch.Tensor
    is_owner: bool


class StoredFile(NamedTuple):
    """One file of a checkpoint: its name in the folder, its size in bytes, its SHA-256 in hex."""

    name: str
    size: int
    sha256: str


class StoredChunk(NamedTuple):
    """Where a part of a tensor lies: file number, first byte in the file, offsets and sizes in the tensor."""

    file: int
    begin: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]


class StoredTensor(NamedTuple):
    """A whole tensor: its shape, its safetensors dtype name and the parts that make it up."""

    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[StoredChunk, ...]


def dtype_name(dtype: torch.dtype) -> str:
    """The safetensors name of a dtype. Raises UserError for a dtype that no checkpoint holds."""
    if dtype not in _NAMES:
        raise UserError(f"a tensor of dtype {dtype} cannot be saved; known are {', '.join(map(str, _NAMES))}")
    return _NAMES[dtype]


def dtype_of(name: str) -> torch.dtype:
    """The torch dtype of a safetensors name that `Manifest.decode` has let through."""
    return _DTYPES[name]


def folder_name(step: int, attempt: str) -> str:
    """`step-000005000-<attempt>`; the attempt is lower-case letters, digits and dots."""
    name = f"step-{step:09d}-{attempt}"
    if not _FOLDER.fullmatch(name):
        raise UserError(f"no checkpoint folder for step {step!r}, attempt {attempt!r}: the step has at most nine "
                        "digits and the attempt holds lower-case letters, digits and dots")  # fmt: skip
    return name


def parse_folder(name: str) -> tuple[int, str] | None:
    """Step and attempt of a folder name, None for a foreign one."""
    match = _FOLDER.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def path_in(folder: str, name: str) -> str:
    """The storage path of a file of a checkpoint."""
    return f"{ROOT}/{folder}/{name}"


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds. `payload` is the caller's JSON: step counter, lane cursors, plan, digests, versions.

    `token` is the fencing token of the run's lease at the time of the commit; `created` is a wall-clock time for
    people, which nothing compares.
    """

    step: int
    attempt: str
    kind: Kind
    token: int
    created: str
    payload: Mapping[str, Any]
    files: tuple[StoredFile, ...]
    tensors: Mapping[str, StoredTensor]

    @property
    def folder(self) -> str:
        return folder_name(self.step, self.attempt)

    def encode(self) -> bytes:
        """The manifest as the one byte string that `decode` accepts."""
        body = {
            "format": VERSION,
            "step": self.step,
            "attempt": self.attempt,
            "kind": self.kind,
            "token": self.token,
            "created": self.created,
            "payload": self.payload,
            "files": self.files,
            "tensors": self.tensors,
        }
        return seal(body)

    @staticmethod
    def decode(data: bytes, folder: str) -> Manifest:
        """Read a manifest. Raises CheckpointDamaged where it is torn, altered, of another folder or inconsistent."""
        body = unseal(data, f"{folder}/{MANIFEST}")
        if body.get("format") != VERSION:
            raise CheckpointDamaged(f"{folder}/{MANIFEST} has format {body.get('format')!r}, this program reads "
                                    f"format {VERSION}")  # fmt: skip
        try:
            manifest = _from_body(body)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointDamaged(f"{folder}/{MANIFEST} is not a manifest: {error}") from error
        if manifest.folder != folder:
            raise CheckpointDamaged(f"{folder} holds the manifest of {manifest.folder}; it was renamed or copied")
        return manifest


def _from_body(body: dict[str, Any]) -> Manifest:
    files = tuple(StoredFile(str(name), int(size), str(sha)) for name, size, sha in body["files"])
    for file in files:
        if not _FILE.fullmatch(file.name) or file.size < 0 or not _DIGEST.fullmatch(file.sha256):
            raise ValueError(f"bad file entry {file}")
    tensors = {name: _tensor(name, row, files) for name, row in body["tensors"].items()}
    if body["kind"] not in ("permanent", "ephemeral"):
        raise ValueError(f"kind {body['kind']!r}")
    return Manifest(
        step=int(body["step"]),
        attempt=str(body["attempt"]),
        kind=cast(Kind, body["kind"]),
        token=int(body["token"]),
        created=str(body["created"]),
        payload=dict(body["payload"]),
        files=files,
        tensors=tensors,
    )


def _tensor(name: str, row: list[Any], files: tuple[StoredFile, ...]) -> StoredTensor:
    shape, dtype, rows = row
    item = _DTYPES[dtype].itemsize
    chunks = tuple(StoredChunk(file, begin, tuple(offsets), tuple(sizes)) for file, begin, offsets, sizes in rows)
    for chunk in chunks:
        inside = len(shape) == len(chunk.offsets) == len(chunk.sizes) and all(
            offset >= 0 and size > 0 and offset + size <= whole
            for whole, offset, size in zip(shape, chunk.offsets, chunk.sizes, strict=True)
        )
        end = chunk.begin + math.prod(chunk.sizes) * item
        if not inside or not 0 <= chunk.file < len(files) or not 0 <= chunk.begin <= end <= files[chunk.file].size:
            raise ValueError(f"bad part {chunk} of tensor {name!r} with shape {shape}")
    return StoredTensor(tuple(shape), dtype, chunks)


def seal(body: Mapping[str, Any]) -> bytes:
    """JSON text of `body` with a SHA-256 of that text in front. Raises UserError for values JSON does not have."""
    try:
        text = json.dumps(body, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"a checkpoint's payload must be plain JSON: {error}") from error
    return f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n".encode()


def unseal(data: bytes, what: str) -> dict[str, Any]:
    """The body of a sealed text. Raises CheckpointDamaged where any byte differs from what was sealed."""
    digest, _, rest = data.partition(b"\n")
    text = rest[:-1]
    if rest[-1:] != b"\n" or hashlib.sha256(text).hexdigest().encode() != digest:
        raise CheckpointDamaged(f"{what} is torn or altered: its text does not match its own SHA-256")
    body = json.loads(text)
    if not isinstance(body, dict):
        raise CheckpointDamaged(f"{what} does not hold a JSON object")
    return body
