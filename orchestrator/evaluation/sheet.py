"""The outputs of one task by one model, kept as JSON lines while they come: an interrupted evaluation goes on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from data.storage import Missing, Storage
from data.tasks import Example
from data.tasks.outputs import line

_SECONDS_PER_MEGABYTE = 2.0
_LEAST_SECONDS = 1.0


class Sheet:
    """Outputs by example id at `path`; `signature` says what they hold for, and others' are thrown away.

    The file is always whole: it is written anew, the rarer the larger it is, so that the cost stays bounded on S3.
    """

    def __init__(
        self, storage: Storage, path: str, signature: dict[str, Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._storage = storage
        self._path = path
        self._clock = clock
        self._lines: dict[str, str] = {}
        self._bytes = 0
        self._written_at = -math.inf
        marker = f"{path.removesuffix('.jsonl')}.settings.json"
        wanted = (json.dumps(signature, sort_keys=True, indent=2) + "\n").encode()
        if _content(storage, marker) == wanted:
            for text in (_content(storage, path) or b"").decode().splitlines():
                self._keep(json.loads(text)["id"], text + "\n")
        else:
            # The old outputs go first: they must not be taken for those of the new settings.
            storage.delete(path)
            storage.write(marker, wanted)

    @property
    def known(self) -> set[str]:
        """Ids of the examples whose outputs are there."""
        return set(self._lines)

    def add(self, examples: Sequence[Example], outputs: Sequence[str]) -> None:
        """Take the outputs of some examples."""
        for example, output in zip(examples, outputs, strict=True):
            self._keep(example.id, line(example, output))
        if self._clock() - self._written_at >= max(_LEAST_SECONDS, self._bytes / 2**20 * _SECONDS_PER_MEGABYTE):
            self.flush()

    def flush(self) -> None:
        """Bring all that came to storage."""
        self._storage.write(self._path, "".join(self._lines.values()).encode())
        self._written_at = self._clock()

    def finish(self, examples: Sequence[Example]) -> list[str]:
        """The outputs in the order of `examples`, all of which must be there; the file gets that order too."""
        self._lines = {example.id: self._lines[example.id] for example in examples}
        self.flush()
        return [str(json.loads(text)["output"]) for text in self._lines.values()]

    def _keep(self, key: str, text: str) -> None:
        self._lines[key] = text
        self._bytes += len(text)


def _content(storage: Storage, path: str) -> bytes | None:
    try:
        return storage.read(path)
    except Missing:
        return None
