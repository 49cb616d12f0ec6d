"""URLs as C4 sees them: normalized, hashed for ownership and for the split, matched against lists."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

_SCHEME = re.compile(r"^https?://(www\.)?", re.IGNORECASE)
_TRACKING = re.compile(r"\?(utm_|ref|feed).*$", re.DOTALL)
_FEED = re.compile(r"/feed/*$")
SPLIT_BUCKETS = 1_000


def normalize_url(url: str) -> str:
    """`url` without scheme, ``www.``, tracking tail (``?utm_…``, ``?ref…``, ``?feed…``), ``/feed`` and last slashes."""
    url = _TRACKING.sub("", _SCHEME.sub("", url.strip()))
    return _FEED.sub("", url.rstrip("/")).rstrip("/")


def url_digest(url: str) -> bytes:
    """The 16 bytes of md5(url): the smallest owns a duplicate, and their value modulo 1000 decides the split."""
    return hashlib.md5(url.encode(), usedforsecurity=False).digest()


def is_validation(digest: bytes, share: float) -> bool:
    """Whether a page is held out: md5(url) mod 1000 below 1000·share (C4: bucket 0 alone, a share of 0.001)."""
    return int.from_bytes(digest, "big") % SPLIT_BUCKETS < round(share * SPLIT_BUCKETS)


def website(url: str) -> str:
    """The host of a URL with or without scheme, lower-cased, without port and ``www.``; "" for what has none."""
    host = urlsplit(url if "://" in url else f"//{url}").hostname or ""
    return host.removeprefix("www.")


def top_level_domain(host: str) -> str:
    """The last label of a host ("org"), or "" for addresses and names without a dot."""
    label = host.rpartition(".")[2] if "." in host else ""
    return "" if label.isdigit() else label


def in_domains(host: str, domains: frozenset[str]) -> bool:
    """Whether `host` is one of `domains` or a subdomain of one."""
    labels = host.split(".")
    return any(".".join(labels[start:]) in domains for start in range(len(labels)))


class UrlSet:
    """A list of URLs as sorted 64-bit hashes of their normal forms: 8 bytes a URL, for lists of tens of millions."""

    def __init__(self, urls: Iterable[str]) -> None:
        hashes = np.fromiter((_hash(normalize_url(url)) for url in urls), dtype=np.uint64)
        self.hashes: NDArray[np.uint64] = np.unique(hashes)

    def __contains__(self, normalized: str) -> bool:
        value = np.uint64(_hash(normalized))
        place = int(np.searchsorted(self.hashes, value))
        return place < len(self.hashes) and bool(self.hashes[place] == value)


def _hash(normalized: str) -> int:
    return int.from_bytes(url_digest(normalized)[:8], "little")
