"""Where a task's raw records come from: files small enough for memory, prepared corpora, foreign WebDataset tars."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from data.errors import UserError
from data.naming import unknown
from data.storage import open_storage
from data.tasks.example import Record

MEMORY_LIMIT = 2 << 30
"""Bytes a file source may hold: beyond, the file is imported into an examples corpus first."""


class Source(Protocol):
    """Records of named splits, addressed by index."""

    def splits(self) -> list[str]: ...

    def records(self, split: str) -> int: ...

    def read(self, split: str, start: int, count: int) -> list[Record]: ...


@dataclass(frozen=True)
class FileSource:
    """Splits that are single files (disk or S3): JSON lines, CSV, TSV or Parquet, told by the name's ending.

    `columns` names the columns of a CSV or TSV file without a heading.
    """

    files: Mapping[str, str]
    columns: tuple[str, ...] = ()
    _loaded: dict[str, list[Record]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for path in self.files.values():
            reader_of(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return FileSource, (dict(self.files), self.columns)

    def splits(self) -> list[str]:
        return list(self.files)

    def records(self, split: str) -> int:
        return len(self._load(split))

    def read(self, split: str, start: int, count: int) -> list[Record]:
        return self._load(split)[start : start + count]

    def _load(self, split: str) -> list[Record]:
        if split not in self._loaded:
            if split not in self.files:
                raise unknown("split", split, self.files)
            path = self.files[split]
            folder, _, name = str(path).rpartition("/")
            storage = open_storage(folder or ".")
            size = storage.stat(name).size
            if size > MEMORY_LIMIT:
                raise UserError(
                    f"{path} has {size / 1e9:.1f} GB, too much for memory: bring it into an examples corpus first "
                    f"with `python -m data.tasks import`."
                )
            self._loaded[split] = list(reader_of(path)(storage.read(name), str(path), self.columns))
        return self._loaded[split]


def read_json_lines(data: bytes, path: str, columns: tuple[str, ...] = ()) -> Iterator[Record]:
    """One JSON object a line; blank lines are passed over."""
    for number, line in enumerate(decoded(data, path).split("\n"), start=1):
        if line.strip():
            yield json_object(line, f"{path}, line {number}")


def json_object(line: str, where: str) -> Record:
    """The JSON object in `line`; anything else is refused, naming `where`."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON ({error.msg} at character {error.pos}): mend or remove it.") from None
    if not isinstance(record, dict):
        raise UserError(f"{where} holds {type(record).__name__}, not an object: give one record as an object.")
    return record


def read_delimited(delimiter: str, quoting: Literal[0, 3]) -> Callable[[bytes, str, tuple[str, ...]], Iterator[Record]]:
    """A reader of delimited text whose first line names the columns, unless `columns` does."""

    def read(data: bytes, path: str, columns: tuple[str, ...] = ()) -> Iterator[Record]:
        csv.field_size_limit(MEMORY_LIMIT)
        rows = csv.reader(io.StringIO(decoded(data, path), newline=""), delimiter=delimiter, quoting=quoting)
        names = list(columns) or next(rows, [])
        for row in rows:
            if len(row) != len(names):
                if not row:
                    continue
                raise UserError(
                    f"{path}, line {rows.line_num} has {len(row)} columns, not the {len(names)} of "
                    f"{', '.join(names)}: mend the line or name the columns."
                )
            yield dict(zip(names, row, strict=True))

    return read


def read_parquet(data: bytes, path: str, columns: tuple[str, ...] = ()) -> Iterator[Record]:
    """The rows of a Parquet file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{path} needs pyarrow to be read: pip install 't5-orchestrator[eval]'.") from None
    try:
        table = parquet.read_table(pyarrow.BufferReader(data), columns=list(columns) or None)
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} is not a Parquet file that can be read: {error}.") from None
    yield from table.to_pylist()


def decoded(data: bytes, path: str) -> str:
    """`data` as UTF-8 text; a byte that is none is refused with its place."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}: convert it to UTF-8.") from None


READERS: dict[str, Callable[[bytes, str, tuple[str, ...]], Iterator[Record]]] = {
    ".jsonl": read_json_lines,
    ".json": read_json_lines,
    ".csv": read_delimited(",", csv.QUOTE_MINIMAL),
    ".tsv": read_delimited("\t", csv.QUOTE_NONE),
    ".parquet": read_parquet,
}


def reader_of(path: str) -> Callable[[bytes, str, tuple[str, ...]], Iterator[Record]]:
    """The reader for a file's name ending."""
    for ending, reader in READERS.items():
        if str(path).endswith(ending):
            return reader
    raise UserError(f"{path} ends in none of {', '.join(READERS)}: these are the file formats a task can read.")
