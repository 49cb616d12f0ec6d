"""Writes one shard and its sidecar: the same records give the same bytes, whenever and wherever."""

from __future__ import annotations

import hashlib
import tempfile
import zlib
from pathlib import Path
from types import TracebackType

import numpy as np

from data.corpus import sidecar
from data.corpus.index import Shard
from data.corpus.records import check_name, content_problem
from data.corpus.tar import END, header, padded
from data.errors import UserError
from data.storage import Storage


class ShardWriter:
    """Collects records in a temporary file and uploads tar and sidecar on `close`.

    As a context manager it closes on success and leaves nothing behind on an error. The corpus has the shard
    only once an index names it.
    """

    def __init__(self, storage: Storage, split: str, number: int) -> None:
        if not split or not all(c.isalnum() or c in "_-" for c in split):
            raise UserError(f"split {split!r} is refused: use letters, digits, '_' and '-'")
        self._storage, self._name = storage, f"shards/{split}-{number:05d}.tar"
        self._file = tempfile.NamedTemporaryFile(prefix="shard-", suffix=".tar")  # noqa: SIM115 - lives until close or abort
        self._hash = hashlib.sha256()
        self._keys: set[str] = set()
        self._offsets, self._sums = [0], list[int]()
        self._tokens: int | None = 0

    @property
    def records(self) -> int:
        """Records added so far."""
        return len(self._sums)

    @property
    def size(self) -> int:
        """Size in bytes that the tar would have now."""
        return self._offsets[-1] + len(END)

    def add(self, key: str, members: dict[str, bytes], tokens: int | None = None) -> None:
        """Append a record of members by extension; `tokens` is its number of ids (known by itself for `ids`).

        Raises UserError for an unsafe or repeated key, and for content that no reader could use.
        """
        problem = content_problem(members)
        if problem is not None:
            raise UserError(f"record {key[:80]!r} is refused: {problem}")
        if key in self._keys:
            raise UserError(f"record key {key[:80]!r} occurs twice in {self._name}: keys must differ")
        parts = []
        for extension in sorted(members):
            check_name(key, extension)
            content = members[extension]
            parts += [header(f"{key}.{extension}", len(content)), content]
            parts.append(bytes(padded(len(content)) - len(content)))
        raw = b"".join(parts)
        self._keys.add(key)
        self._file.write(raw)
        self._hash.update(raw)
        self._offsets.append(self._offsets[-1] + len(raw))
        self._sums.append(zlib.crc32(raw))
        if tokens is None and "ids" in members:
            tokens = len(members["ids"]) // 2
        self._tokens = None if tokens is None or self._tokens is None else self._tokens + tokens

    def close(self) -> Shard:
        """Upload the tar, then its sidecar, and return the index's entry. Raises UserError without records."""
        if not self._sums:
            self.abort()
            raise UserError(f"shard {self._name} has no records: add some, or make no writer for it")
        with self._file as file:
            file.write(END)
            self._hash.update(END)
            file.flush()
            self._storage.upload(self._name, Path(file.name))
        table, head = sidecar.encode(np.array(self._offsets, np.uint64), np.array(self._sums, np.uint32))
        shard = Shard(self._name, self.records, self.size, self._hash.hexdigest(), head, self._tokens)
        self._storage.write(shard.sidecar, table)
        return shard

    def abort(self) -> None:
        """Give up: the temporary file goes away, and storage was never touched."""
        self._file.close()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
