"""Ranges of a remote storage kept on a local disk, within a bound, so that later epochs need no network."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import zlib
from collections.abc import Iterator
from pathlib import Path

from data.errors import UserError
from data.storage.base import Stat, Storage

SUFFIX = ".range"
SUM = 4


class CachedStorage:
    """Another storage, with a folder of ranges that were read with a tag; all else passes through.

    The folder may be shared by processes and outlive them: files appear whole, carry a CRC-32, and the oldest
    used go first so that all together stay within `max_bytes`. A damaged or vanished file is read anew.
    """

    def __init__(self, origin: Storage, folder: str | Path, max_bytes: int) -> None:
        if max_bytes <= 0:
            raise UserError(f"cache bound {max_bytes} bytes is not positive: give a size or use no cache")
        self.origin, self.folder, self.max_bytes = origin, Path(folder).absolute(), max_bytes
        self.url = origin.url
        self.hits = self.misses = 0
        self.folder.mkdir(parents=True, exist_ok=True)

    def read(self, path: str, *, start: int = 0, length: int | None = None, etag: str | None = None) -> bytes:
        if etag is None:
            return self.origin.read(path, start=start, length=length)
        key = repr((self.url, path, etag, start, length)).encode()
        file = self.folder / (hashlib.sha256(key).hexdigest() + SUFFIX)
        kept = _kept(file)
        if kept is not None:
            self.hits += 1
            return kept
        self.misses += 1
        data = self.origin.read(path, start=start, length=length, etag=etag)
        self._keep(file, data)
        return data

    def write(self, path: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        return self.origin.write(path, data, if_absent=if_absent, if_match=if_match)

    def upload(self, path: str, local: Path) -> None:
        self.origin.upload(path, local)

    def stat(self, path: str) -> Stat:
        return self.origin.stat(path)

    def stats(self, prefix: str = "") -> dict[str, Stat]:
        return self.origin.stats(prefix)

    def list(self, prefix: str = "") -> list[str]:
        return self.origin.list(prefix)

    def delete(self, path: str) -> None:
        self.origin.delete(path)

    def _keep(self, file: Path, data: bytes) -> None:
        size = len(data) + SUM
        if size > self.max_bytes:
            return
        # A cache that cannot be written, on a full disk say, only means that the origin is read again.
        with contextlib.suppress(OSError), self._locked():
            self._make_room(size)
            partial = file.with_suffix(f".{secrets.token_hex(8)}")
            try:
                partial.write_bytes(zlib.crc32(data).to_bytes(SUM, "little") + data)
                os.replace(partial, file)
            finally:
                partial.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        entries = []
        for entry in os.scandir(self.folder):
            if entry.name == "lock":
                continue
            if not entry.name.endswith(SUFFIX):
                # Under the lock nobody is writing: a partial file's writer has died.
                os.unlink(entry.path)
                continue
            status = entry.stat()
            entries.append((status.st_mtime_ns, status.st_size, entry.path))
        total = sum(entry[1] for entry in entries) + size
        for _, freed, path in sorted(entries):
            if total <= self.max_bytes:
                return
            os.unlink(path)
            total -= freed

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _kept(file: Path) -> bytes | None:
    try:
        raw = file.read_bytes()
        os.utime(file)
    except OSError:
        return None
    data = raw[SUM:]
    if len(raw) < SUM or zlib.crc32(data) != int.from_bytes(raw[:SUM], "little"):
        return None
    return data
