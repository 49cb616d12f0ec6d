"""Where the records of a shard lie and what they sum to, readable a page at a time and still checked.

Layout, little endian: `RECORDS1`, uint64 number of records, a 16-byte BLAKE2b digest of each page; then the
pages. A page has the uint64 offsets of its up to 1024 records and the end of the last one, then their uint32
CRC-32s over the raw tar bytes, headers and padding included. The index holds the SHA-256 of the head (all before
the pages), so one small read proves a page, and neither memory nor the first read grows with the shard.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.errors import DataDamaged

MAGIC = b"RECORDS1"
PAGE = 1024
DIGEST = 16
FULL_PAGE = 8 * (PAGE + 1) + 4 * PAGE


def encode(offsets: npt.NDArray[np.uint64], sums: npt.NDArray[np.uint32]) -> tuple[bytes, str]:
    """The sidecar's bytes and the SHA-256 of its head, from offsets (n+1) in bytes and CRC-32s (n)."""
    pages = []
    for first in range(0, len(sums), PAGE):
        last = min(first + PAGE, len(sums))
        pages.append(offsets[first : last + 1].astype("<u8").tobytes() + sums[first:last].astype("<u4").tobytes())
    head = MAGIC + len(sums).to_bytes(8, "little") + b"".join(_digest(page) for page in pages)
    return head + b"".join(pages), hashlib.sha256(head).hexdigest()


def head_size(records: int) -> int:
    """Bytes of the head of a sidecar for so many records."""
    return len(MAGIC) + 8 + DIGEST * -(-records // PAGE)


def size(records: int) -> int:
    """Bytes of the whole sidecar for so many records."""
    return head_size(records) + 12 * records + 8 * -(-records // PAGE)


@dataclass(frozen=True)
class Head:
    """The checked head of one sidecar; `name` is the file's path, for messages."""

    name: str
    records: int
    digests: bytes

    @staticmethod
    def parse(raw: bytes, name: str, records: int, sha256: str) -> Head:
        """Raises DataDamaged where the bytes are not the head that the index tells of."""
        if hashlib.sha256(raw).hexdigest() != sha256 or len(raw) != head_size(records):
            raise DataDamaged(f"{name} does not match the index: copy it and its shard again, or prepare them anew")
        return Head(name, records, raw[len(MAGIC) + 8 :])

    def page_range(self, page: int) -> tuple[int, int]:
        """Start and length in bytes of a page within the sidecar."""
        records = min(PAGE, self.records - page * PAGE)
        return head_size(self.records) + page * FULL_PAGE, 12 * records + 8

    def parse_page(self, raw: bytes, page: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        """Offsets (m+1) in bytes and CRC-32s (m) of a page's records. Raises DataDamaged."""
        start, length = self.page_range(page)
        if len(raw) != length or _digest(raw) != self.digests[DIGEST * page : DIGEST * (page + 1)]:
            raise DataDamaged(
                f"{self.name} is damaged between bytes {start} and {start + length}: "
                "copy it again, or prepare its shard anew"
            )
        records = (length - 8) // 12
        cut = 8 * (records + 1)
        return np.frombuffer(raw[:cut], "<u8"), np.frombuffer(raw[cut:], "<u4")


def _digest(page: bytes) -> bytes:
    return hashlib.blake2b(page, digest_size=DIGEST).digest()
