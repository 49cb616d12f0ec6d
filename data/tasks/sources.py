"""Where a task's raw records come from: anything that gives records of named splits by index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from data.errors import UserError
from data.naming import unknown
from data.tasks.example import Record
from data.tasks.files import Row, reader_of, rows_of, size_of

MEMORY_LIMIT = 2 << 30
"""Bytes a file source may hold: beyond, the files are imported into an examples corpus first."""


class Source(Protocol):
    """Records of named splits, addressed by index; a fingerprint tells whether a split is still the same."""

    def splits(self) -> list[str]: ...

    def records(self, split: str) -> int: ...

    def read(self, split: str, start: int, count: int) -> list[Record]: ...

    def fingerprint(self, split: str) -> str: ...


@dataclass(frozen=True)
class FileSource:
    """Splits that are files small enough for memory (disk or S3): JSON lines, CSV, TSV or Parquet.

    A name with `*` takes all files that match. `columns` names the columns of files without a heading.
    """

    files: Mapping[str, str]
    columns: tuple[str, ...] = ()
    _loaded: dict[str, list[Record]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for place in self.files.values():
            reader_of(place)

    def __reduce__(self) -> tuple[Any, ...]:
        return FileSource, (dict(self.files), self.columns)

    def splits(self) -> list[str]:
        return list(self.files)

    def records(self, split: str) -> int:
        return len(self._load(split))

    def read(self, split: str, start: int, count: int) -> list[Record]:
        return self._load(split)[start : start + count]

    def fingerprint(self, split: str) -> str:
        """SHA-256 (hex) over the split's records in order: other content, or another order, gives another one."""
        digest = hashlib.sha256()
        for record in self._load(split):
            digest.update(json.dumps(record, sort_keys=True, default=str).encode() + b"\n")
        return digest.hexdigest()

    def rows(self, split: str) -> Iterator[Row]:
        """The split's rows one after another, without holding them: for files of any size."""
        if split not in self.files:
            raise unknown("split", split, self.files)
        return rows_of(self.files[split], self.columns)

    def _load(self, split: str) -> list[Record]:
        if split not in self._loaded:
            rows = self.rows(split)
            size = size_of(self.files[split])
            if size > MEMORY_LIMIT:
                raise UserError(
                    f"{self.files[split]} has {size / 1e9:.1f} GB, too much for memory: bring it into an examples "
                    f"corpus first with `python -m data.tasks import`."
                )
            self._loaded[split] = [_usable(row) for row in rows]
        return self._loaded[split]


def _usable(row: Row) -> Record:
    if row.record is None:
        raise UserError(f"{row.where} cannot be used, since {row.problem}: mend or remove it.")
    return row.record
