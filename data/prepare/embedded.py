"""The embedded corpus: this Python's documentation strings, prepared as any other text, for a first run without data.

    url = prepare_embedded("prepared/embedded")

The first call takes some seconds; later ones return at once, as long as the same Python and the same settings are used.
"""

from __future__ import annotations

import fcntl
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.prepare.docstrings import library_documents, library_fingerprint
from data.prepare.pipeline import Request, prepare
from data.prepare.progress import Progress
from data.prepare.settings import Settings, variant_settings
from data.storage import LocalStorage, Missing, Storage, open_storage

VOCABULARY_SIZE = 4_000
_MARKER = "embedded.json"
_SOURCE = "source.jsonl"


def embedded_settings() -> Settings:
    """Rules for short technical prose: lines need no end mark but three words; what occurs twice stays once."""
    return variant_settings(
        "plain",
        clean_lines=True,
        end_marks=False,
        fewest_words=3,
        fewest_sentences=1,
        duplicates=("windows",),
        validation_share=0.05,
        vocabulary_size=VOCABULARY_SIZE,
    )


def prepare_embedded(place: str | Path, progress: Progress | None = None) -> str:
    """The URL of the embedded corpus at `place`, a folder or an S3 prefix, made there unless it is there already.

    A second process that asks for the same folder at the same time waits for the first. A killed preparation starts
    over. For S3 it is prepared on the local disk and brought there, its index last.
    """
    storage = open_storage(place)
    if isinstance(storage, LocalStorage):
        return _prepare_in(storage, progress)
    if not _is_complete(storage, _marker()):
        with tempfile.TemporaryDirectory() as folder:
            _prepare_in(LocalStorage(folder), progress)
            made = LocalStorage(folder)
            parts = [path for path in made.list() if path.startswith(("shards/", "vocabulary/", "report."))]
            for path in [*parts, "index.json", _MARKER]:
                storage.upload(path, Path(made.url) / path)
    return storage.url


def _marker() -> dict[str, str]:
    return {"library": library_fingerprint(), "settings": embedded_settings().fingerprint()}


def _prepare_in(storage: LocalStorage, progress: Progress | None) -> str:
    with _alone(Path(storage.url)):
        settings, marker = embedded_settings(), _marker()
        if _is_complete(storage, marker):
            return storage.url
        lines = (json.dumps({"text": text}) for text in library_documents())
        storage.write(_SOURCE, "".join(f"{line}\n" for line in lines).encode())
        source = str(Path(storage.url) / _SOURCE)
        request = Request(inputs=(source,), output=storage.url, settings=settings, overwrite=True)
        prepare(request, progress=progress)
        storage.delete(_SOURCE)
        # Last: with the marker the corpus is complete.
        storage.write(_MARKER, json.dumps(marker).encode())
    return storage.url


def _is_complete(storage: Storage, marker: dict[str, str]) -> bool:
    try:
        storage.stat("index.json")
        return bool(json.loads(storage.read(_MARKER)) == marker)
    except (Missing, ValueError):
        return False


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".preparing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
