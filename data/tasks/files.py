"""Records of plain files on disk or S3, read in pieces: JSON lines, CSV, TSV and Parquet, told by the name's ending."""

from __future__ import annotations

import codecs
import csv
import fnmatch
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from data.errors import UserError
from data.storage import Storage, open_storage
from data.tasks.example import Record
from data.tasks.places import ending_in, parted, within

PIECE = 8 << 20
FIELD_LIMIT = 1 << 30


@dataclass(frozen=True)
class Row:
    """One record with its place, or the problem that keeps it from being one."""

    where: str
    record: Record | None = None
    problem: str = ""


Reader = Callable[[Storage, str, str, tuple[str, ...]], Iterator[Row]]
"""Reads the file of a name in a storage; the third argument is what messages call it, the last its columns."""


def rows_of(place: str, columns: tuple[str, ...] = ()) -> Iterator[Row]:
    """The rows of the file at `place`, or of all files that a name with `*` matches, in order of their names.

    `columns` names the columns of CSV and TSV files without a heading, and chooses those of Parquet files.
    """
    for each in matching(place):
        folder, name = parted(each)
        yield from reader_of(each)(open_storage(folder), name, each, columns)


def matching(place: str) -> list[str]:
    """The files that `place` names, sorted; `*` and `?` in its name stand for any characters. None is refused."""
    folder, name = parted(place)
    if not set(name) & set("*?["):
        return [place]
    found = [path for path in open_storage(folder).list() if "/" not in path and fnmatch.fnmatchcase(path, name)]
    if not found:
        raise UserError(f"No file matches {place}: check the folder and the name.")
    return [within(folder, path) for path in sorted(found)]


def size_of(place: str) -> int:
    """Bytes of the files that `place` names."""
    total = 0
    for each in matching(place):
        folder, name = parted(each)
        total += open_storage(folder).stat(name).size
    return total


def text_lines(storage: Storage, name: str, place: str) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, read in pieces of one version of the file."""
    stat = storage.stat(name)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    rest = ""
    for start in range(0, stat.size, PIECE):
        piece = storage.read(name, start=start, length=PIECE, etag=stat.etag)
        try:
            text = rest + decoder.decode(piece, final=start + PIECE >= stat.size)
        except UnicodeDecodeError as error:
            raise UserError(f"{place} is not UTF-8 near byte {start + error.start}: convert it to UTF-8.") from None
        *whole, rest = text.split("\n")
        for line in whole:
            yield line + "\n"
    if rest:
        yield rest


def read_json_lines(storage: Storage, name: str, place: str, columns: tuple[str, ...]) -> Iterator[Row]:
    """One JSON object a line; blank lines are passed over."""
    for number, line in enumerate(text_lines(storage, name, place), start=1):
        if line.strip():
            yield json_row(line, f"{place}, line {number}")


def json_row(line: str, where: str) -> Row:
    """The JSON object in `line`."""
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        return Row(where, problem=f"it is not JSON ({error})")
    if not isinstance(record, dict):
        return Row(where, problem=f"it holds a {type(record).__name__}, not an object")
    return Row(where, record)


def read_delimited(delimiter: str, quoting: Literal[0, 3]) -> Reader:
    """A reader of delimited text whose first line names the columns, unless `columns` does."""

    def read(storage: Storage, name: str, place: str, columns: tuple[str, ...]) -> Iterator[Row]:
        csv.field_size_limit(FIELD_LIMIT)
        rows = csv.reader(text_lines(storage, name, place), delimiter=delimiter, quoting=quoting)
        names = list(columns) or next(rows, [])
        for row in rows:
            where = f"{place}, line {rows.line_num}"
            if len(row) == len(names):
                yield Row(where, dict(zip(names, row, strict=True)))
            elif row:
                yield Row(where, problem=f"it has {len(row)} columns, not the {len(names)} of {', '.join(names)}")

    return read


def read_parquet(storage: Storage, name: str, place: str, columns: tuple[str, ...]) -> Iterator[Row]:
    """The rows of a Parquet file, a row group at a time."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{place} needs pyarrow to be read: pip install 't5-orchestrator[eval]'.") from None
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(storage.read(name)))
        number = 0
        for batch in file.iter_batches(columns=list(columns) or None):
            for record in batch.to_pylist():
                yield Row(f"{place}, row {number}", record)
                number += 1
    except pyarrow.ArrowException as error:
        raise UserError(f"{place} is not a Parquet file that can be read: {error}.") from None


READERS: dict[str, Reader] = {
    ".jsonl": read_json_lines,
    ".json": read_json_lines,
    ".csv": read_delimited(",", csv.QUOTE_MINIMAL),
    ".tsv": read_delimited("\t", csv.QUOTE_NONE),
    ".parquet": read_parquet,
}
ENDINGS = tuple(READERS)


def reader_of(place: str) -> Reader:
    """The reader for a file's name ending."""
    ending = ending_in(place, ENDINGS)
    if ending is None:
        raise UserError(f"{place} ends in none of {', '.join(ENDINGS)}: these are the file formats a task can read.")
    return READERS[ending]
