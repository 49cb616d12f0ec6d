"""Reads blocks of records from a prepared corpus, each checked against the index before anybody sees it."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.corpus import sidecar
from data.corpus.damage import BadRecordBudget, Damage
from data.corpus.index import MEMBER, CorpusIndex, Shard
from data.corpus.records import Record, content_problem, parse_record, plain_record
from data.errors import DataDamaged, UserError
from data.storage import CachedStorage, Missing, Stat, Storage, open_storage

PAGES_KEPT = 2048
PIECE = 8 << 20
MEND = "copy it again or prepare the corpus anew"
Table = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]


class Corpus:
    """A prepared corpus. Threads may share one; it can be pickled; memory is bounded by 2048 sidecar pages (25 MB)."""

    def __init__(self, storage: Storage, index: CorpusIndex) -> None:
        self.storage, self.index = storage, index
        self._stats: dict[str, Stat] = {}
        self._heads: dict[str, sidecar.Head] = {}
        self._pages: OrderedDict[tuple[str, int], Table] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def open(place: str | Path | Storage, *, check: bool = True) -> Corpus:
        """The corpus at a URL, folder or storage. `check` looks once at the sizes of all shards and sidecars.

        Without it each shard is looked at when first read, which suits readers of a corpus that their driver
        has checked. Raises Missing, DataDamaged (naming the shard and the mend), UserError.
        """
        storage = open_storage(place) if isinstance(place, str | Path) else place
        corpus = Corpus(storage, CorpusIndex.load(storage))
        if check:
            corpus._check_sizes()
        return corpus

    def records(self, split: str) -> int:
        """Number of records of a split."""
        return sum(shard.records for shard in self.index.shards(split))

    def read_block(
        self, split: str, shard: int, start: int, count: int, budget: BadRecordBudget | None = None
    ) -> list[Record]:
        """Records `start` to `start + count` of a split's shard, by one ranged read.

        A record that is not what the index says, or that cannot be used, raises DataDamaged; with a `budget` it
        is charged there and left out instead, so the list and what was charged always make up `count`.
        Raises Changed where the shard was replaced while in use, BudgetExceeded, UserError for a wrong range.
        """
        entry = self._shard(split, shard)
        if start < 0 or count < 0 or start + count > entry.records:
            raise UserError(
                f"records {start} to {start + count} of {entry.name} were asked for, and it has {entry.records}"
            )
        if count == 0:
            return []
        offsets, sums = self._table(entry, start, count)
        bounds = offsets.tolist()
        raw = self._read(entry.name, bounds[0], bounds[-1] - bounds[0], entry.bytes)
        view, base, needed = memoryview(raw), bounds[0], MEMBER[self.index.kind]
        found: list[Record] = []
        for number, expected in enumerate(sums.tolist()):
            begin, end = bounds[number], bounds[number + 1]
            piece = view[begin - base : end - base]
            if zlib.crc32(piece) == expected:
                plain = plain_record(raw, begin - base, end - base, needed)
                if plain is not None:
                    found.append(plain)
                    continue
            else:
                # The wire or a cache may be at fault: only what is bad twice is bad at rest.
                piece = memoryview(self._read(entry.name, begin, end - begin, entry.bytes, cached=False))
            record = _checked(piece, expected, needed)
            if not isinstance(record, str):
                found.append(record)
                continue
            damage = Damage(entry.name, start + number, begin, end, record)
            if budget is None:
                raise DataDamaged(f"{damage}: {MEND}, or allow bad records by a budget")
            budget.charge(damage)
        return found

    def verify(self, split: str) -> None:
        """Read every byte of a split and compare with the index. Raises DataDamaged naming the first bad record."""
        for shard in self.index.shards(split):
            digest = hashlib.sha256()
            for start in range(0, shard.bytes, PIECE):
                digest.update(self._read(shard.name, start, min(PIECE, shard.bytes - start), shard.bytes))
            if digest.hexdigest() != shard.sha256:
                self._locate(shard)
            for page in range(-(-shard.records // sidecar.PAGE)):
                self._page(shard, page)

    def _locate(self, shard: Shard) -> None:
        for first in range(0, shard.records, 64):
            count = min(64, shard.records - first)
            offsets, sums = self._table(shard, first, count)
            bounds = offsets.tolist()
            for number in range(count):
                begin, end = bounds[number], bounds[number + 1]
                if zlib.crc32(self._read(shard.name, begin, end - begin, shard.bytes)) != int(sums[number]):
                    damage = Damage(shard.name, first + number, begin, end, "its checksum differs")
                    raise DataDamaged(f"{damage}: {MEND}")
        raise DataDamaged(f"{shard.name} has another SHA-256 than its index tells, outside its records: {MEND}")

    def _check_sizes(self) -> None:
        found: dict[str, Stat] = {}
        folders = {shard.name.rpartition("/")[0] for shards in self.index.splits.values() for shard in shards}
        for folder in sorted(folders):
            found.update(self.storage.stats(f"{folder}/" if folder else ""))
        for shards in self.index.splits.values():
            for shard in shards:
                for path, size in ((shard.name, shard.bytes), (shard.sidecar, sidecar.size(shard.records))):
                    self._check_size(path, size, found.get(path))
                    self._stats[path] = found[path]

    def _check_size(self, path: str, size: int, stat: Stat | None) -> None:
        if stat is None:
            raise Missing(f"{path} of {self.storage.url} is in the index but does not exist: {MEND}")
        if stat.size != size:
            raise DataDamaged(f"{path} of {self.storage.url} has {stat.size} bytes, the index tells {size}: {MEND}")

    def _shard(self, split: str, number: int) -> Shard:
        shards = self.index.shards(split)
        if not 0 <= number < len(shards):
            raise UserError(f"shard {number} of split {split!r} was asked for, and it has {len(shards)}")
        return shards[number]

    def _read(self, path: str, start: int, length: int, size: int, *, cached: bool = True) -> bytes:
        """A range of an object that has `size` bytes, of the version that was first looked at."""
        storage = self.storage
        if not cached and isinstance(storage, CachedStorage):
            storage = storage.origin
        stat = self._stats.get(path)
        if stat is None:
            stat = self.storage.stat(path)
            self._check_size(path, size, stat)
            self._stats[path] = stat
        raw = storage.read(path, start=start, length=length, etag=stat.etag)
        if len(raw) != length:
            raise DataDamaged(f"{path} gave {len(raw)} bytes from byte {start} on instead of {length}: {MEND}")
        return raw

    def _table(self, shard: Shard, start: int, count: int) -> Table:
        """Offsets (count + 1) in bytes and CRC-32s (count) of a range of records."""
        first, last = start // sidecar.PAGE, (start + count - 1) // sidecar.PAGE
        pages = [self._page(shard, page) for page in range(first, last + 1)]
        skip = start - first * sidecar.PAGE
        offsets = np.concatenate([page[0][:-1] for page in pages] + [pages[-1][0][-1:]])
        sums = np.concatenate([page[1] for page in pages])
        return offsets[skip : skip + count + 1], sums[skip : skip + count]

    def _page(self, shard: Shard, page: int) -> Table:
        key = (shard.sidecar, page)
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
                return self._pages[key]
        size = sidecar.size(shard.records)
        head = self._heads.get(shard.sidecar)
        if head is None:
            raw = self._read(shard.sidecar, 0, sidecar.head_size(shard.records), size)
            head = sidecar.Head.parse(raw, shard.sidecar, shard.records, shard.sidecar_sha256)
            self._heads[shard.sidecar] = head
        start, length = head.page_range(page)
        table = head.parse_page(self._read(shard.sidecar, start, length, size), page)
        with self._lock:
            self._pages[key] = table
            while len(self._pages) > PAGES_KEPT:
                self._pages.popitem(last=False)
        return table

    def __getstate__(self) -> dict[str, Any]:
        return {"storage": self.storage, "index": self.index, "_stats": self._stats}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["storage"], state["index"])  # type: ignore[misc]
        self._stats = state["_stats"]


def _checked(piece: memoryview, expected: int, needed: str) -> Record | str:
    """The record in the raw bytes, or why there is none."""
    if zlib.crc32(piece) != expected:
        return "its checksum differs"
    try:
        record = parse_record(piece)
    except DataDamaged as error:
        return str(error)
    return content_problem(record[1], needed) or record
