"""The work folder of one preparation: what stages leave for later stages, and which of their tasks are done.

Everything lies in the output's storage, below ``work/<fingerprint>/``, so that workers on other machines see it and a
killed preparation goes on. A task's last write is its marker ``<stage>/<task>.json``: with it the task is done, without
it the task runs again and writes the same bytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.storage import Missing, Storage

# Text shrinks to a third at the fastest level, and the shared storage or network is slower than that.
_LEVEL = 1


@dataclass(frozen=True)
class Document:
    """A page on its way through the stages; fields as in :class:`data.prepare.readers.Page`."""

    url: str
    text: str
    timestamp: str | None
    named: bool


@dataclass(frozen=True)
class Part:
    """A file of documents: its name in the work folder, their number, and the bytes of their texts (UTF-8)."""

    name: str
    documents: int
    bytes: int


class Work:
    """The work folder `prefix` of `storage`."""

    def __init__(self, storage: Storage, prefix: str) -> None:
        self.storage = storage
        self.prefix = prefix

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole."""
        self.storage.write(f"{self.prefix}/{name}", data)

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file; Missing where there is none."""
        return self.storage.read(f"{self.prefix}/{name}", start=start, length=length)

    def finish(self, stage: str, task: int, result: dict[str, Any]) -> None:
        """Mark a task as done, with its (JSON) result."""
        self.write(f"{stage}/{task:06d}.json", json.dumps(result).encode())

    def result(self, stage: str, task: int) -> dict[str, Any] | None:
        """A finished task's result, or None."""
        try:
            found: dict[str, Any] = json.loads(self.read(f"{stage}/{task:06d}.json"))
        except Missing:
            return None
        return found

    def finished(self, stage: str) -> set[int]:
        """The numbers of the stage's finished tasks."""
        names = self.storage.list(f"{self.prefix}/{stage}/")
        return {int(name[-11:-5]) for name in names if name.endswith(".json")}

    def read_group(self, name: str, groups: int, group: int, dtype: np.dtype[Any]) -> NDArray[np.void]:
        """The rows of one group of a file that :func:`data.prepare.duplicates.group` made, by two ranged reads."""
        first, last = np.frombuffer(self.read(name, 8 * group, 16), "<u8").tolist()
        start = 8 * (groups + 1) + first * dtype.itemsize
        return np.frombuffer(self.read(name, start, (last - first) * dtype.itemsize), dtype)

    def documents(self, part: str) -> Iterator[Document]:
        """The documents of a part."""
        for line in zlib.decompress(self.read(part)).split(b"\n"):
            if line:
                yield Document(*json.loads(line))


class PartWriter:
    """Writes documents into parts of about `part_bytes` of text each, named ``<name>-<number>.docs``."""

    def __init__(self, work: Work, name: str, part_bytes: int) -> None:
        self._work = work
        self._name = name
        self._part_bytes = part_bytes
        self._lines: list[bytes] = []
        self._bytes = 0
        self.parts: list[Part] = []

    def add(self, document: Document) -> None:
        """Append a document."""
        row = [document.url, document.text, document.timestamp, document.named]
        self._lines.append(json.dumps(row, ensure_ascii=False).encode())
        self._bytes += len(document.text.encode())
        if self._bytes >= self._part_bytes:
            self._flush()

    def close(self) -> list[Part]:
        """Write what is left; all parts, in order."""
        if self._lines:
            self._flush()
        return self.parts

    def _flush(self) -> None:
        name = f"{self._name}-{len(self.parts):04d}.docs"
        self._work.write(name, zlib.compress(b"\n".join(self._lines), _LEVEL))
        self.parts.append(Part(name, len(self._lines), self._bytes))
        self._lines, self._bytes = [], 0


def parts_as_json(parts: Iterable[Part]) -> list[list[Any]]:
    """Parts as plain data for a task's result."""
    return [[part.name, part.documents, part.bytes] for part in parts]


def parts_from_json(content: Sequence[Sequence[Any]]) -> list[Part]:
    """What :func:`parts_as_json` made."""
    return [Part(*row) for row in content]
