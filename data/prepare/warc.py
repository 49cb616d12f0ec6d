"""Common Crawl's archives, parsed by warcio: text records of WET files, and text or HTML responses of WARC files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from data.errors import DataDamaged, UserError
from data.prepare.html_text import html_to_text

_TEXT_TYPES = ("text/plain", "text/html", "application/xhtml+xml")

# URL, date, content, place (``file#record``). Content is str, bytes that no known encoding fits, or None for too long.
WarcText = tuple[str, str | None, str | bytes | None, str]


class _Whole:
    """The archive's plain bytes; the end of a broken gzip file is an error, which warcio would take for the end."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def read(self, length: int = -1) -> bytes:
        try:
            return self._stream.read(length)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _damaged(f"input {self._name} is broken gzip ({error})") from error


def read_warc(stream: BinaryIO, name: str, longest: int) -> Iterator[WarcText]:
    """The text-bearing records of a decompressed archive, in order; `longest` bounds a record's bytes.

    WET keeps text in "conversion" records. In WARC files successful "response" and "resource" records of plain text
    and HTML are read; HTML is reduced to its visible text. DataDamaged where the archive is broken or a record's
    content does not match its digest.
    """
    try:
        from warcio.archiveiterator import ArchiveIterator
        from warcio.exceptions import ArchiveLoadFailed
    except ImportError as error:
        raise UserError(
            "reading WARC and WET files needs the package warcio: pip install 't5-orchestrator[prepare]'"
        ) from error
    try:
        records = ArchiveIterator(_Whole(stream, name), check_digests=True)
        for number, record in enumerate(records):
            kind = _content_type(record)
            if kind not in _TEXT_TYPES:
                continue
            where = f"{name}#{number}"
            url = record.rec_headers.get_header("WARC-Target-URI") or where
            raw = record.content_stream().read(longest + 1)
            if len(raw) > longest:
                yield url, None, None, where
                continue
            _check(record, raw, where)
            text = _decode(raw, record)
            if isinstance(text, str) and kind != "text/plain":
                text = html_to_text(text)
            yield url, record.rec_headers.get_header("WARC-Date"), text, where
        if records.err_count:
            raise _damaged(f"input {name} has {records.err_count} records of a wrong length")
    except ArchiveLoadFailed as error:
        raise _damaged(f"input {name} is a broken WARC file ({error})") from error


def _damaged(what: str) -> DataDamaged:
    return DataDamaged(f"{what}; fetch it again or leave it out of the inputs")


def _content_type(record: Any) -> str:
    """The media type of a record that may hold a page's text, or "" for other records."""
    if record.rec_type == "conversion" or record.rec_type == "resource":
        header = record.rec_headers.get_header("Content-Type")
    elif record.rec_type == "response" and record.http_headers and record.http_headers.get_statuscode() == "200":
        header = record.http_headers.get_header("Content-Type")
    else:
        return ""
    return (header or "").partition(";")[0].strip().lower()


def _check(record: Any, raw: bytes, where: str) -> None:
    length = record.rec_headers.get_header("Content-Length")
    short = record.rec_type == "conversion" and length and len(raw) < int(length)
    if short or record.digest_checker.passed is False:
        raise _damaged(f"the file of input record {where} is damaged or cut short")


def _decode(raw: bytes, record: Any) -> str | bytes:
    headers = record.http_headers or record.rec_headers
    charset = (headers.get_header("Content-Type") or "").lower().partition("charset=")[2].strip("\"' ;")
    for encoding in ("utf-8", charset):
        try:
            return raw.decode(encoding) if encoding else raw
        except (UnicodeDecodeError, LookupError):
            continue
    return raw
