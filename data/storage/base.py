"""What every place for bytes offers: whole or ranged reads, atomic writes, conditions, listing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from data.errors import UserError


class Missing(UserError, FileNotFoundError):
    """No object lies at the path; the message names it."""


class Changed(UserError):
    """An object is not the one that was expected: replaced while in use, or a write's condition failed."""


class Unavailable(UserError, ConnectionError):
    """Storage did not answer properly within the retries and the time allowed."""


@dataclass(frozen=True)
class Stat:
    """Size in bytes and a version tag; the tag differs whenever the object was replaced."""

    size: int
    etag: str


@runtime_checkable
class Storage(Protocol):
    """A folder of objects. Paths are relative, with forward slashes; implementations can be pickled."""

    url: str

    def read(self, path: str, *, start: int = 0, length: int | None = None, etag: str | None = None) -> bytes:
        """Bytes `start` to `start + length` (to the end without `length`); fewer only where the object ends.

        Raises Missing, Changed (the object's tag is not `etag`), Unavailable.
        """

    def write(self, path: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Put the whole object at once and return its tag: a reader sees the old bytes or the new ones.

        Raises Changed where `if_absent` finds an object, or where the tag is not `if_match`.
        """

    def upload(self, path: str, local: Path) -> None:
        """Put a file of any size, streamed; it appears whole or not at all."""

    def stat(self, path: str) -> Stat:
        """Size and tag of one object. Raises Missing."""

    def stats(self, prefix: str = "") -> dict[str, Stat]:
        """Size and tag of every object whose path starts with `prefix`, sorted by path."""

    def list(self, prefix: str = "") -> list[str]:
        """Sorted paths of every object whose path starts with `prefix`, however deep."""

    def delete(self, path: str) -> None:
        """Remove an object; no error where there is none."""


def checked_path(path: str) -> str:
    """The path itself where it stays inside its storage. Raises UserError where it does not."""
    parts = path.split("/")
    if not path or "\0" in path or "\\" in path or any(part in ("", ".", "..") for part in parts):
        raise UserError(f"storage path {path!r} is refused: give a relative path without empty, '.' or '..' parts")
    return path
