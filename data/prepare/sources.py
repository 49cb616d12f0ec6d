"""Inputs on disk or S3: found, told apart by format, streamed, and cut into pieces of work.

A piece is decided by the inputs and the settings alone, never by the number of workers, so that all later stages and
their outputs are the same wherever they run.
"""

from __future__ import annotations

import gzip
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from data.errors import UserError
from data.prepare.settings import Settings
from data.storage import Missing, Storage, open_storage

_BUFFER = 4 << 20
_ENDINGS = {
    "text": (".txt", ".text", ".md"),
    "jsonl": (".json", ".jsonl", ".ndjson"),
    "warc": (".wet", ".warc"),
}


@dataclass(frozen=True)
class Source:
    """One input file: where it lies, the name it has in records and reports, its size in bytes, its format."""

    storage: Storage
    path: str
    name: str
    size: int
    etag: str
    format: str

    @property
    def compressed(self) -> bool:
        """Whether the file is gzip, which can only be read from its start."""
        return self.path.endswith(".gz")

    def open(self, start: int = 0) -> BinaryIO:
        """The file's raw bytes from `start` on, fetched in ranges; Changed where it was replaced meanwhile."""
        return cast(BinaryIO, io.BufferedReader(_Ranges(self, start), _BUFFER))

    def open_plain(self, start: int = 0) -> BinaryIO:
        """As :meth:`open`, decompressed where the file is gzip (`start` must then be 0)."""
        if not self.compressed:
            return self.open(start)
        return cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=self.open(start)), _BUFFER))


class _Ranges(io.RawIOBase):
    def __init__(self, source: Source, start: int) -> None:
        self._source = source
        self._position = start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        source = self._source
        length = min(len(buffer), source.size - self._position)
        if length <= 0:
            return 0
        data = source.storage.read(source.path, start=self._position, length=length, etag=source.etag)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@dataclass(frozen=True)
class Span:
    """Bytes [start, end) of the source with this number; lines that begin in the span belong to it."""

    source: int
    start: int
    end: int


Piece = tuple[Span, ...]


def find_sources(inputs: Sequence[str], form: str) -> tuple[list[Source], list[str]]:
    """The files that `inputs` (files, folders, S3 objects or prefixes) name, and those passed over in folders.

    `form` is one of the formats, "auto" to go by the endings of names. UserError where an input does not exist, has an
    unknown ending, or nothing is left.
    """
    sources: list[Source] = []
    ignored: list[str] = []
    for place in inputs:
        found = _one_file(place, form)
        if found is not None:
            sources.append(found)
            continue
        storage = open_storage(place)
        stats = {path: stat for path, stat in storage.stats().items() if not _is_hidden(path)}
        if not stats:
            raise UserError(f"input {place} does not exist or is an empty folder; name files or folders with text")
        for path, stat in stats.items():
            kind = _format_of(path, form)
            if kind is None:
                ignored.append(path)
            else:
                sources.append(Source(storage, path, path, stat.size, stat.etag, kind))
    if not sources:
        raise UserError(
            f"none of the {len(ignored)} input files has a known ending; say what they are with --format "
            "(text, lines, jsonl, warc)"
        )
    return _distinct_names(sources), ignored


def plan_pieces(sources: Sequence[Source], settings: Settings) -> list[Piece]:
    """The pieces of work: ranges of large files that can be cut, whole other files, small ones put together."""
    pieces: list[Piece] = []
    open_piece: list[Span] = []
    filled = 0
    for number, source in enumerate(sources):
        for span in _spans(number, source, settings.piece_bytes):
            open_piece.append(span)
            filled += span.end - span.start
            if filled >= settings.piece_bytes:
                pieces.append(tuple(open_piece))
                open_piece, filled = [], 0
    if open_piece:
        pieces.append(tuple(open_piece))
    return pieces


def _spans(number: int, source: Source, piece_bytes: int) -> Iterable[Span]:
    if source.compressed or source.format in ("text", "warc"):
        return [Span(number, 0, source.size)]
    starts = range(0, max(source.size, 1), piece_bytes)
    return [Span(number, start, min(start + piece_bytes, source.size)) for start in starts]


def _one_file(place: str, form: str) -> Source | None:
    address, _, query = place.partition("?")
    folder, slash, name = address.rpartition("/")
    if name in ("", ".", "..") or address.endswith("://" + name):
        return None
    parent = (folder or slash or ".") + (f"?{query}" if query else "")
    storage = open_storage(parent)
    try:
        stat = storage.stat(name)
    except Missing:
        return None
    kind = _format_of(name, form)
    if kind is None:
        raise UserError(
            f"the ending of input {place} says nothing about its format; add --format (text, lines, jsonl, warc)"
        )
    return Source(storage, name, name, stat.size, stat.etag, kind)


def _format_of(path: str, form: str) -> str | None:
    if form != "auto":
        return form
    name = path.lower().removesuffix(".gz")
    return next((kind for kind, endings in _ENDINGS.items() if name.endswith(endings)), None)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _distinct_names(sources: list[Source]) -> list[Source]:
    """Names are parts of record keys, so files of one name from different folders get their number in front."""
    counts = Counter(source.name for source in sources)
    return [
        replace(source, name=f"{number}/{source.name}") if counts[source.name] > 1 else source
        for number, source in enumerate(sources)
    ]
