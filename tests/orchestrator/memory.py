"""Storage in memory whose process can die, or whose disk can be full, at any chosen operation."""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from data.storage import Changed, Missing, Stat


class Dead(OSError):
    """The process that used this storage is dead: nothing it does arrives any more."""


@dataclass
class Objects:
    """What lies on storage, shared by all processes that look at it."""

    content: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


class MemoryStorage:
    """One process's view of `objects`.

    The `die_at`-th operation that changes something (from 0) is the last: it is lost, or with `answer_lost` it arrives
    and the process dies before it hears so. `before` is called with (operation, path) first and may raise.
    """

    url = "memory"

    def __init__(
        self,
        objects: Objects | None = None,
        die_at: int | None = None,
        answer_lost: bool = False,
        before: Callable[[str, str], None] | None = None,
    ) -> None:
        self.objects = Objects() if objects is None else objects
        self.die_at, self.answer_lost, self.before = die_at, answer_lost, before
        self.changes = 0
        self.reads: list[tuple[str, int]] = []
        self.dead = False

    def view(self, **options: object) -> "MemoryStorage":
        """Another process's view of the same objects."""
        return MemoryStorage(self.objects, **options)

    def _enter(self, operation: str, path: str) -> None:
        if self.dead:
            raise Dead("dead")
        if self.before is not None:
            self.before(operation, path)

    def _change(self, operation: str, path: str, change: Callable[[], None]) -> None:
        with self.objects.lock:
            self._enter(operation, path)
            last = self.changes == self.die_at
            self.changes += 1
            if not last or self.answer_lost:
                change()
            if last:
                self.dead = True
                raise Dead(f"died at {operation} of {path}")

    def _etag(self, path: str) -> str:
        return f"{self.objects.versions[path]}-{hashlib.md5(self.objects.content[path]).hexdigest()}"

    def read(self, path: str, *, start: int = 0, length: int | None = None, etag: str | None = None) -> bytes:
        with self.objects.lock:
            self._enter("read", path)
            if path not in self.objects.content:
                raise Missing(f"{path} does not exist")
            if etag is not None and etag != self._etag(path):
                raise Changed(path)
            data = self.objects.content[path]
            data = data[start:] if length is None else data[start : start + length]
            self.reads.append((path, len(data)))
            return data

    def write(self, path: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        def change() -> None:
            if if_absent and path in self.objects.content:
                raise Changed(f"{path} exists already")
            if if_match is not None and (path not in self.objects.content or self._etag(path) != if_match):
                raise Changed(f"{path} was replaced")
            self.objects.content[path] = bytes(data)
            self.objects.versions[path] = self.objects.versions.get(path, 0) + 1

        with self.objects.lock:
            self._change("write", path, change)
            return self._etag(path)

    def upload(self, path: str, local: Path) -> None:
        self.write(path, local.read_bytes())

    def stat(self, path: str) -> Stat:
        with self.objects.lock:
            return Stat(len(self.read(path)), self._etag(path))

    def stats(self, prefix: str = "") -> dict[str, Stat]:
        return {path: self.stat(path) for path in self.list(prefix)}

    def list(self, prefix: str = "") -> list[str]:
        with self.objects.lock:
            self._enter("list", prefix)
            return sorted(path for path in self.objects.content if path.startswith(prefix))

    def delete(self, path: str) -> None:
        self._change("delete", path, lambda: self.objects.content.pop(path, None) and None)


class FakeClock:
    """A monotonic clock that moves only when somebody sleeps; `on_sleep` is what the world does meanwhile."""

    def __init__(self, on_sleep: Callable[[float], None] | None = None) -> None:
        self.now, self.on_sleep = 0.0, on_sleep

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.on_sleep is not None:
            self.on_sleep(self.now)
