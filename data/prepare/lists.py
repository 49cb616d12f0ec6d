"""The user's lists and test sets: domains, URLs and bad words one a line, benchmark examples as lines or JSON lines."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable

from data.errors import UserError
from data.prepare.executor import Lists
from data.prepare.overlap import Benchmark
from data.prepare.urls import UrlSet, website
from data.storage import open_storage


def read_lines(place: str) -> list[str]:
    """The lines of a UTF-8 file on disk or S3 (gzip by its ending), stripped; empty ones and # comments left out."""
    raw = read_file(place)
    try:
        text = (gzip.decompress(raw) if place.partition("?")[0].endswith(".gz") else raw).decode("utf-8-sig")
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise UserError(f"list {place} is not UTF-8 text ({error}); save it as UTF-8, one entry a line") from error
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def read_file(place: str) -> bytes:
    """The bytes of one file on disk or S3."""
    address, _, query = place.partition("?")
    folder, slash, name = address.rpartition("/")
    return open_storage((folder or slash or ".") + (f"?{query}" if query else "")).read(name)


def load_lists(
    domains: str | None, urls: str | None, bad_words: str | None
) -> tuple[Lists, dict[str, str]]:
    """The lists in these files, and their fingerprints for the settings; None for a list that is not wanted."""
    fingerprints: dict[str, str] = {}

    def lines(name: str, place: str | None) -> list[str] | None:
        if place is None:
            return None
        found = read_lines(place)
        if not found:
            raise UserError(f"the list of {name} in {place} is empty; give one entry a line")
        fingerprints[name] = _fingerprint(found)
        return found

    domain_lines = lines("domains", domains)
    url_lines = lines("urls", urls)
    word_lines = lines("bad words", bad_words)
    return (
        Lists(
            domains=None if domain_lines is None else frozenset(map(website, domain_lines)),
            urls=None if url_lines is None else UrlSet(url_lines),
            bad_words=tuple(word_lines or ()),
        ),
        fingerprints,
    )


def load_benchmark(place: str) -> Benchmark:
    """A test set: each line is an example; of a JSON line all text fields count, in the order of their names."""
    examples = [_example(line) for line in read_lines(place)]
    if not examples:
        raise UserError(f"benchmark {place} is empty; give one example a line")
    return Benchmark(examples)


def _example(line: str) -> str:
    if not line.startswith("{"):
        return line
    try:
        record = json.loads(line)
    except ValueError:
        return line
    return " ".join(value for _, value in sorted(record.items()) if isinstance(value, str))


def _fingerprint(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
