"""From the bytes of a piece to pages: plain text, JSON lines (the public C4 layout), WARC and WET.

What cannot be read as a page comes out as a :class:`Bad` record, in its place, for the caller to count.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from data.errors import DataDamaged
from data.prepare.settings import Settings
from data.prepare.sources import Piece, Source, Span
from data.prepare.urls import normalize_url

_SKIP = 1 << 20


@dataclass(frozen=True, slots=True)
class Page:
    """One document. `url` is normalized, or ``file#byte`` where the data has none (`named` tells which)."""

    url: str
    text: str
    timestamp: str | None
    named: bool


@dataclass(frozen=True, slots=True)
class Bad:
    """A record that is no page: why, where (``file#byte``), and its beginning."""

    reason: str
    where: str
    excerpt: str


def read_piece(sources: Sequence[Source], piece: Piece, settings: Settings) -> Iterator[Page | Bad]:
    """The pages and bad records of a piece, in order. DataDamaged where a compressed file is broken."""
    for span in piece:
        source = sources[span.source]
        try:
            yield from _READERS[source.format](source, span, settings)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataDamaged(
                f"input {source.name} is broken gzip ({error}); fetch it again or leave it out of the inputs"
            ) from error


def _read_text(source: Source, span: Span, settings: Settings) -> Iterator[Page | Bad]:
    where = f"{source.name}#0"
    with source.open_plain() as stream:
        raw = stream.read(settings.longest_record + 1)
    if len(raw) > settings.longest_record:
        yield Bad("overlong record", where, _excerpt(raw))
        return
    text = _decode(raw)
    yield Bad("undecodable", where, _excerpt(raw)) if text is None else Page(where, text, None, False)


def _read_lines(source: Source, span: Span, settings: Settings) -> Iterator[Page | Bad]:
    for position, raw in _lines(source, span, settings.longest_record):
        where = f"{source.name}#{position}"
        text = _decode(raw)
        if len(raw) > settings.longest_record:
            yield Bad("overlong record", where, _excerpt(raw))
        elif text is None:
            yield Bad("undecodable", where, _excerpt(raw))
        else:
            yield Page(where, text, None, False)


def _read_json_lines(source: Source, span: Span, settings: Settings) -> Iterator[Page | Bad]:
    for position, raw in _lines(source, span, settings.longest_record):
        where = f"{source.name}#{position}"
        if len(raw) > settings.longest_record:
            yield Bad("overlong record", where, _excerpt(raw))
        else:
            yield _json_page(raw, where, settings)


def _json_page(raw: bytes, where: str, settings: Settings) -> Page | Bad:
    line = _decode(raw)
    if line is None:
        return Bad("undecodable", where, _excerpt(raw))
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return Bad("not JSON", where, _excerpt(raw))
    if not isinstance(record, dict) or not isinstance(record.get(settings.text_field), str):
        return Bad(f"no field {settings.text_field!r}", where, _excerpt(raw))
    text: str = record[settings.text_field]
    url = record.get(settings.url_field)
    named = isinstance(url, str) and bool(url.strip())
    address = normalize_url(str(url)) if named else where
    if not (_is_unicode(text) and _is_unicode(address)):
        return Bad("undecodable", where, _excerpt(raw))
    timestamp = record.get("timestamp")
    return Page(address, text, timestamp if isinstance(timestamp, str) else None, named)


def _read_warc(source: Source, span: Span, settings: Settings) -> Iterator[Page | Bad]:
    from data.prepare.warc import read_warc

    with source.open_plain() as stream:
        for url, timestamp, content, where in read_warc(stream, source.name, settings.longest_record):
            if content is None:
                yield Bad("overlong record", where, url)
            elif isinstance(content, bytes):
                yield Bad("undecodable", where, _excerpt(content))
            else:
                yield Page(normalize_url(url), content, timestamp, True)


_READERS = {"text": _read_text, "lines": _read_lines, "jsonl": _read_json_lines, "warc": _read_warc}


def _lines(source: Source, span: Span, longest: int) -> Iterator[tuple[int, bytes]]:
    """The non-blank lines that begin in the span, with their places; of a longer line the first `longest` + 1 bytes."""
    position = span.start
    end = None if source.compressed else span.end
    with source.open_plain(max(span.start - 1, 0)) as stream:
        if span.start:
            # The line under way at the span's start belongs to the span before.
            position += -1 + _skip_line(stream.readline)
        while end is None or position < end:
            raw = stream.readline(longest + 1)
            if not raw:
                return
            start = position
            position += len(raw)
            if len(raw) > longest and not raw.endswith(b"\n"):
                position += _skip_line(stream.readline)
            else:
                raw = raw.rstrip(b"\r\n")
            if raw.strip():
                yield start, raw


def _skip_line(readline: Callable[[int], bytes]) -> int:
    skipped = 0
    while True:
        chunk = readline(_SKIP)
        skipped += len(chunk)
        if not chunk or chunk.endswith(b"\n"):
            return skipped


def _decode(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can carry the text: JSON may hide halves of surrogate pairs in escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _excerpt(raw: bytes) -> str:
    return raw[:200].decode("utf-8", "backslashreplace")
