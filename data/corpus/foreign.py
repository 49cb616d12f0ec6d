"""Tars that another tool wrote: read once from end to end, checked, and given sidecars and an index."""

from __future__ import annotations

import hashlib
import re
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from data.corpus import sidecar
from data.corpus.index import INDEX, MEMBER, VERSION, CorpusIndex, Kind, Shard
from data.corpus.tar import BLOCK, END, MAX_EXTENSION, next_member, split_name
from data.errors import DataDamaged, UserError
from data.storage import Stat, Storage

PIPELINE = "scan of foreign tars"
PIECE = 8 << 20
# Room for the longest chain of headers in front of one member.
HEADERS = 2 * MAX_EXTENSION + 8 * BLOCK
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
SPLIT_WORDS = dict.fromkeys(("validation", "valid", "val", "dev"), "validation") | {"test": "test"}


def scan_foreign(storage: Storage, *, kind: Kind | None = None, workers: int = 4) -> CorpusIndex:
    """Write a sidecar beside every tar of a folder and an index of all, and return the index.

    A tar belongs to the split that a word of its path names (validation, valid, val, dev; test), else to train;
    shards are in order of their paths. `kind` is told by the first record's members unless given. Each tar must
    be whole, up to its closing zero blocks; where one is not, nothing is indexed. Memory: about 50 MB a worker.

    Raises DataDamaged naming tar, byte and mend; UserError where there are no tars, compressed ones, members
    of no known kind, or the index of a prepared corpus in the way.
    """
    stats = storage.stats()
    compressed = [path for path in stats if path.endswith(COMPRESSED)]
    if compressed:
        raise UserError(f"{compressed[0]} is compressed and cannot be read in parts: decompress it to .tar")
    tars = [path for path in stats if path.endswith(".tar")]
    if not tars:
        raise UserError(f"{storage.url} holds no .tar files to scan: name the folder that has them")
    if INDEX in stats and CorpusIndex.load(storage).pipeline != PIPELINE:
        raise UserError(f"{storage.url} is a prepared corpus already: a scan would overwrite its {INDEX}")
    with ThreadPoolExecutor(workers) as pool:
        scans = list(pool.map(lambda path: _scan(storage, path, stats[path]), tars))
    splits: dict[str, list[Shard]] = {}
    for path, (shard, _) in zip(tars, scans, strict=True):
        splits.setdefault(_split(path), []).append(shard)
    found = kind or _kind(tars[0], scans[0][1])
    index = CorpusIndex(VERSION, found, {name: tuple(shards) for name, shards in splits.items()}, None, PIPELINE)
    index.save(storage)
    return index


class _Window:
    """Forward-only sight of an object, read piece by piece; hashes all that goes by."""

    def __init__(self, storage: Storage, path: str, stat: Stat) -> None:
        self._storage, self._path, self._stat = storage, path, stat
        self._base, self._buffer = 0, b""
        self.hash = hashlib.sha256()

    def view(self, start: int, length: int) -> memoryview:
        """Bytes from `start` on, `length` of them or up to the object's end; what lies before is forgotten."""
        end = min(start + length, self._stat.size)
        while self._base + len(self._buffer) < end:
            position = self._base + len(self._buffer)
            wanted = min(max(PIECE, end - position), self._stat.size - position)
            raw = self._storage.read(self._path, start=position, length=wanted, etag=self._stat.etag)
            if len(raw) != wanted:
                raise DataDamaged(f"{self._path} gave {len(raw)} of {wanted} bytes from byte {position} on: scan again")
            self.hash.update(raw)
            self._buffer = self._buffer[start - self._base :] + raw
            self._base = start
        return memoryview(self._buffer)[start - self._base : end - self._base]


def _scan(storage: Storage, path: str, stat: Stat) -> tuple[Shard, set[str]]:
    """One tar's entry, its sidecar written, and the extensions of its first record."""
    window = _Window(storage, path, stat)
    try:
        offsets, sums, extensions = _records(window, stat.size)
        _check_end(window, offsets[-1], stat.size)
    except DataDamaged as error:
        raise DataDamaged(f"{path} cannot be indexed: {error}; copy it again or take it out of the folder") from None
    table, head = sidecar.encode(np.array(offsets, np.uint64), np.array(sums, np.uint32))
    shard = Shard(path, len(sums), stat.size, window.hash.hexdigest(), head)
    storage.write(shard.sidecar, table)
    return shard, extensions


def _records(window: _Window, size: int) -> tuple[list[int], list[int], set[str]]:
    """Offsets (n+1) in bytes and CRC-32s (n) of the records, and the extensions of the first one."""
    offsets, sums = [0], list[int]()
    keys: set[str] = set()
    extensions: set[str] = set()
    first: set[str] = set()
    current: str | None = None
    position = total = 0
    while (member := next_member(window.view(position, HEADERS), 0, checksum=True)) is not None:
        if position + member.end > size:
            raise DataDamaged(f"it ends inside member {member.name!r}")
        key, extension = split_name(member.name)
        if key != current:
            if key in keys:
                raise DataDamaged(f"record key {key!r} occurs twice")
            if current is not None:
                offsets.append(position)
                sums.append(total)
            first = first or extensions
            keys.add(key)
            current, extensions, total = key, set(), 0
        if extension in extensions:
            raise DataDamaged(f"member {member.name!r} occurs twice")
        extensions.add(extension)
        total = zlib.crc32(window.view(position, member.end), total)
        position += member.end
    if current is None:
        raise DataDamaged("it has no records")
    return [*offsets, position], [*sums, total], first or extensions


def _check_end(window: _Window, position: int, size: int) -> None:
    """A tar cut between two members looks whole but for the zero blocks that end it."""
    if bytes(window.view(position, len(END))) != END:
        raise DataDamaged(f"it has no closing zero blocks at byte {position}, so it was cut there")
    while position < size:
        view = window.view(position, PIECE)
        if any(view):
            raise DataDamaged(f"something follows its closing zero blocks after byte {position}")
        position += len(view)


def _kind(path: str, extensions: set[str]) -> Kind:
    for kind, member in MEMBER.items():
        if member in extensions:
            return kind
    raise UserError(
        f"the first record of {path} has {', '.join(sorted(extensions))}: records need {', '.join(MEMBER.values())}"
    )


def _split(path: str) -> str:
    for word in re.split(r"[^a-z]+", path.lower()):
        if word in SPLIT_WORDS:
            return SPLIT_WORDS[word]
    return "train"
