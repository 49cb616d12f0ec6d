"""What a record may be called and hold, the same when it is written and when it is read."""

from __future__ import annotations

import re

from data.corpus.tar import BLOCK, MAX_RECORD, UNSAFE, Member, next_member, padded, split_name
from data.errors import DataDamaged, UserError

Record = tuple[str, dict[str, bytes]]
TEXT_EXTENSIONS = frozenset({"txt", "json"})
# The first 136 bytes of a header with an ASCII name of few signs: key, extension and size.
PLAIN = re.compile(rb"([A-Za-z0-9-][\w-]*(?:/[\w-]+)*)\.([a-z0-9]+)\0*0000644\0(?:0000000\0){2}([0-7]{11})\0")
EXTENSION = re.compile(r"[a-z0-9_][a-z0-9_.-]*")


def check_name(key: str, extension: str) -> None:
    """Raises UserError for a key or extension that `webdataset` or a file system would read otherwise."""
    parts = key.split("/")
    if UNSAFE.search(key) or any(part in ("", ".") for part in parts) or "." in parts[-1] or key.startswith("__"):
        raise UserError(
            f"record key {key[:80]!r} is refused: no absolute or '..' path, no dot in its last part, "
            "no control characters, no '__' in front"
        )
    if not EXTENSION.fullmatch(extension):
        raise UserError(f"extension {extension[:80]!r} of record {key[:80]!r} is refused: use small letters and digits")


def content_problem(members: dict[str, bytes], needed: str | None = None) -> str | None:
    """Why a record cannot be used, or None: empty, too large, not UTF-8, ids not 16 bits wide, no `needed` member."""
    if not members:
        return "it has no members"
    if needed is not None and needed not in members:
        return f"it has no {needed} member, only {', '.join(sorted(members))}"
    size = sum(map(len, members.values()))
    if size > MAX_RECORD:
        return f"it has {size} bytes, above the bound of {MAX_RECORD}"
    for extension, content in members.items():
        problem = _member_problem(extension, content)
        if problem is not None:
            return problem
    return None


def _member_problem(extension: str, content: bytes) -> str | None:
    if extension == "ids":
        if len(content) % 2 or not content:
            return f"its ids have {len(content)} bytes, which are not one or more 16-bit numbers"
    elif extension in TEXT_EXTENSIONS:
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            return f"its {extension} is not UTF-8 (byte {error.start})"
        if not text or text.isspace():
            return f"its {extension} is empty"
    return None


def plain_record(raw: bytes, start: int, end: int, needed: str) -> Record | None:
    """The record at bytes [start, end) where it is as our writer makes most: one `needed` member, a plain name.

    None says nothing about the record but that it has to be looked at in full. This path halves the time of
    reading, since a block has hundreds of records.
    """
    match = PLAIN.match(raw, start, end)
    if match is None or match.end() != start + 136 or raw[start + 156] != 48 or raw[start + 345]:
        return None
    size = int(match[3], 8)
    extension = match[2].decode()
    content = raw[start + BLOCK : start + BLOCK + size]
    if start + BLOCK + padded(size) != end or extension != needed or _member_problem(extension, content) is not None:
        return None
    return match[1].decode(), {extension: content}


def parse_record(raw: bytes | memoryview) -> Record:
    """Key and members of the raw tar bytes of one record. Raises DataDamaged."""
    key: str | None = None
    members: dict[str, bytes] = {}
    position = 0
    while position < len(raw):
        member = next_member(raw, position)
        if member is None:
            break
        if member.end > len(raw):
            raise DataDamaged(f"tar member {member.name!r} reaches beyond its record")
        position = member.end
        key = add_member(key, members, member, bytes(raw[member.start : member.start + member.size]))
    if key is None:
        raise DataDamaged("it has no members")
    return key, members


def add_member(key: str | None, members: dict[str, bytes], member: Member, content: bytes) -> str:
    """Put one member into the record of `key` (None: the first one) and return its key. Raises DataDamaged."""
    found, extension = split_name(member.name)
    if key is not None and found != key:
        raise DataDamaged(f"tar member {member.name!r} lies within record {key!r}")
    if extension in members:
        raise DataDamaged(f"tar member {member.name!r} occurs twice in its record")
    members[extension] = content
    return found
