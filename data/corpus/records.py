"""What a record may be called and hold, the same when it is written and when it is read."""

from __future__ import annotations

import re

from data.corpus.tar import MAX_RECORD, UNSAFE, Member, next_member, split_name
from data.errors import DataDamaged, UserError

Record = tuple[str, dict[str, bytes]]
TEXT_EXTENSIONS = frozenset({"txt", "json"})
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
        if extension in TEXT_EXTENSIONS:
            try:
                empty = not content.decode().strip()
            except UnicodeDecodeError as error:
                return f"its {extension} is not UTF-8 (byte {error.start})"
            if empty:
                return f"its {extension} is empty"
        elif extension == "ids" and (len(content) % 2 or not content):
            return f"its ids have {len(content)} bytes, which are not one or more 16-bit numbers"
    return None


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
