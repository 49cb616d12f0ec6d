"""Members of a tar as bytes in memory: POSIX ustar written, ustar, pax and GNU long names read, nothing extracted.

Formats: POSIX.1-2024, `pax` utility, "ustar Interchange Format" and "pax Header Block"; GNU tar manual,
"Basic Tar Format" (type `L`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from data.errors import DataDamaged, UserError

BLOCK = 512
END = b"\0" * (2 * BLOCK)
MAX_RECORD = 32 << 20
MAX_EXTENSION = 1 << 20
REGULAR, DIRECTORY, PAX, PAX_GLOBAL, LONG_NAME = b"0", b"5", b"x", b"g", b"L"

# As `webdataset` splits a name: the key ends at the first dot of the last part.
NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
# Members that `webdataset` takes for notes about the tar, not for records.
NOTE = re.compile(r"__[^/]*__($|/)")
UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]|^/|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)")


class Member(NamedTuple):
    """One member: its name, the bounds of its content, and where the next header starts; bytes from the start."""

    name: str
    start: int
    size: int
    end: int


def header(name: str, size: int) -> bytes:
    """A ustar header with mode 0644 and zero owner and time, so equal content gives equal bytes.

    Raises UserError where the name does not fit (100 bytes, or 155 more before a slash).
    """
    raw = name.encode()
    prefix = b""
    if len(raw) > 100:
        cut = raw.rfind(b"/", 0, 156)
        if cut <= 0 or len(raw) - cut - 1 > 100:
            raise UserError(f"record name {name[:60]!r}... has {len(raw)} bytes, too long for a tar: shorten it")
        prefix, raw = raw[:cut], raw[cut + 1 :]
    block = bytearray(BLOCK)
    block[0 : len(raw)] = raw
    block[100:108] = b"0000644\0"
    block[108:116] = block[116:124] = b"0000000\0"
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"00000000000\0"
    block[148:156] = b"        "
    block[156:157] = REGULAR
    block[257:265] = b"ustar\x0000"
    block[345 : 345 + len(prefix)] = prefix
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(size: int) -> int:
    """The size rounded up to whole tar blocks."""
    return -(-size // BLOCK) * BLOCK


def next_member(raw: bytes | memoryview, position: int, *, checksum: bool = False) -> Member | None:
    """The regular member whose headers start at `position`, or None where a block of zeros or the end is met.

    Directories, global pax headers and notes (`__name__`) hold no record and are passed over. Links, devices,
    unsafe names, and sizes above the bound raise DataDamaged, as does a header whose sum is wrong where
    `checksum` asks for that. The content may reach beyond `raw`: that is for the caller to see.
    """
    long_name: str | None = None
    long_size: int | None = None
    while position + BLOCK <= len(raw):
        block = bytes(raw[position : position + BLOCK])
        kind = block[156:157]
        if kind == b"\0" and not any(block):
            return None
        if checksum and not _sum_holds(block):
            raise DataDamaged(f"the tar header at byte {position} is damaged")
        size = _number(block[124:136], position) if long_size is None else long_size
        start = position + BLOCK
        end = start + padded(size)
        if kind in (PAX, LONG_NAME, PAX_GLOBAL, DIRECTORY):
            if kind != DIRECTORY and size > MAX_EXTENSION:
                raise DataDamaged(f"the tar header at byte {position} has an extension of {size} bytes")
            content = bytes(raw[start : start + size])
            if len(content) < size and kind != DIRECTORY:
                raise DataDamaged(f"the tar ends inside the header at byte {position}")
            if kind == PAX:
                name, long_size = _pax(content, position)
                long_name = name or long_name
            elif kind == LONG_NAME:
                long_name = _text(content.rstrip(b"\0"), position)
            elif kind == DIRECTORY:
                long_name = long_size = None
                end = start
            position = end
            continue
        name = long_name if long_name is not None else _name(block, position)
        if kind not in (REGULAR, b"\0"):
            raise DataDamaged(f"tar member {name!r} is not a regular file (type {kind!r}) and is refused")
        if UNSAFE.search(name):
            raise DataDamaged(f"tar member {name!r} has an unsafe name and is refused")
        if size > MAX_RECORD:
            raise DataDamaged(f"tar member {name!r} has {size} bytes, above the bound of {MAX_RECORD}")
        if NOTE.match(name):
            position, long_name, long_size = end, None, None
            continue
        return Member(name, start, size, end)
    if position < len(raw):
        raise DataDamaged(f"the tar ends inside the header at byte {position}")
    return None


def split_name(name: str) -> tuple[str, str]:
    """Key and extension of a member's name. Raises DataDamaged where it has none."""
    match = NAME.fullmatch(name)
    if match is None:
        raise DataDamaged(f"tar member {name!r} has no extension, so it belongs to no record: name it key.extension")
    return match.group(1), match.group(2).lower()


def _number(raw: bytes, position: int) -> int:
    digits = raw.strip(b" \0")
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise DataDamaged(f"the tar header at byte {position} has no valid size")
    return int(digits, 8)


def _name(block: bytes, position: int) -> str:
    name = block[:100].split(b"\0", 1)[0]
    if block[345] and block[257:263] == b"ustar\0":
        name = block[345:500].split(b"\0", 1)[0] + b"/" + name
    return _text(name, position)


def _text(raw: bytes, position: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise DataDamaged(f"the tar member at byte {position} has a name that is not UTF-8") from None


def _pax(content: bytes, position: int) -> tuple[str | None, int | None]:
    """The path and the size that a pax header gives; each of its lines is `length key=value`."""
    path: str | None = None
    size: int | None = None
    while content:
        digits, _, _ = content.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        line = content[len(digits) + 1 : length]
        key, equals, value = line.partition(b"=")
        if length <= len(digits) or length > len(content) or not equals or not value.endswith(b"\n"):
            raise DataDamaged(f"the pax header at byte {position} is damaged")
        if key == b"path":
            path = _text(value[:-1], position)
        elif key == b"size":
            if not value[:-1].isdigit() or len(value) > 16:
                raise DataDamaged(f"the pax header at byte {position} has no valid size")
            size = int(value)
        content = content[length:]
    return path, size


def _sum_holds(block: bytes) -> bool:
    stored = block[148:156].strip(b" \0")
    return b"%o" % (sum(block) - sum(block[148:156]) + 8 * 32) == stored.lstrip(b"0")
