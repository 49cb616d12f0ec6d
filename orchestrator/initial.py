"""Weights that a run or an evaluation starts from: a run, one checkpoint of it, an export, a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data.errors import UserError
from data.storage import Missing, Storage, open_storage
from data.tasks.places import parted
from data.vocabulary import Vocabulary
from model.config import T5Config
from model.convert import open_folder
from orchestrator.checkpoint import Chunk, Manifest, load, newest
from orchestrator.checkpoint.agreement import Group
from orchestrator.checkpoint.format import MANIFEST, ROOT
from orchestrator.config import Config, from_values


@dataclass(frozen=True)
class Initial:
    """Where weights come from: a checkpoint (storage and manifest) or a folder of `model.convert`."""

    config: T5Config
    vocabulary: str | None
    """Fingerprint, where the source tells it."""
    storage: Storage | None = None
    manifest: Manifest | None = None
    folder: Path | None = None
    run_config: Config | None = None


def find(source: str) -> Initial:
    """Look at `source` (folder or s3:// URL) without reading weights; `UserError` where nothing is found there."""
    path = Path(source)
    if "://" not in source and (path / "config.json").exists():
        opened = open_folder(path)
        mark = None if opened.vocabulary is None else Vocabulary(opened.vocabulary).fingerprint
        return Initial(opened.config, mark, folder=path)
    run_url, step_folder = run_and_checkpoint(source)
    storage = open_storage(run_url)
    manifest = _manifest(storage, source, step_folder)
    payload = manifest.payload
    return Initial(
        T5Config.from_dict(dict(payload["model"])),
        str(payload["vocabulary"]),
        storage,
        manifest,
        run_config=from_values(payload["config"]),
    )


def run_and_checkpoint(source: str) -> tuple[str, str | None]:
    """The run that `source`, a run or one of its checkpoints, belongs to, and the checkpoint's folder if it is one."""
    folder, name = parted(source.rstrip("/"))
    if folder.partition("?")[0].rpartition("/")[2] != ROOT:
        return source.rstrip("/"), None
    return parted(folder)[0], name


def _manifest(storage: Storage, source: str, folder: str | None) -> Manifest:
    if folder is not None:
        try:
            return Manifest.decode(storage.read(f"{ROOT}/{folder}/{MANIFEST}"), folder)
        except Missing:
            raise UserError(f"{source} is no whole checkpoint: it has no {MANIFEST}") from None
    found = newest(storage, deep=False)
    if found is None:
        raise UserError(
            f"nothing to start from at {source}: give a run's folder with a checkpoint, a checkpoint's folder, or a "
            "folder written by model.convert or Hugging Face"
        )
    return found.manifest


def require_fit(initial: Initial, model: T5Config, vocabulary: str) -> None:
    """Refuse weights of another shape or vocabulary; dropout, and adapters that are added, may differ."""
    free = ("dropout", "adapter")
    before, now = initial.config.to_dict(), model.to_dict()
    differing = [key for key in now if key not in free and before[key] != now[key]]
    wrong = [f"{key}={before[key]} there, {now[key]} here" for key in differing]
    if initial.config.adapter not in (None, model.adapter):
        wrong.append(f"adapter={initial.config.adapter} there, {model.adapter} here")
    if wrong:
        raise UserError(f"the weights of `initial` do not fit: {'; '.join(wrong)}; set model= and options alike")
    if initial.vocabulary not in (None, vocabulary):
        raise UserError(
            f"the weights of `initial` were trained with vocabulary {str(initial.vocabulary)[:12]}, the corpus has "
            f"{vocabulary[:12]}; give a corpus with that vocabulary"
        )


def load_initial(initial: Initial, chunks: Mapping[str, Chunk], group: Group, *, optimizer: bool) -> None:
    """Fill this rank's parts from `initial`; what it does not hold (added adapters) keeps its drawn values.

    `optimizer` also takes the optimizer's state and step counters where a checkpoint has them.
    """
    if initial.folder is not None:
        parameters = open_folder(initial.folder).parameters
        for name, chunk in chunks.items():
            key = name.removeprefix("param/")
            if name.startswith("param/") and key in parameters:
                chunk.local.copy_(parameters[key][_box(chunk)])
        return
    assert initial.storage is not None
    assert initial.manifest is not None
    wanted = {
        name: chunk
        for name, chunk in chunks.items()
        if name in initial.manifest.tensors and (optimizer or name.startswith("param/"))
    }
    load(initial.storage, initial.manifest, wanted, group, partial=True)


def _box(chunk: Chunk) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start, size in zip(chunk.offsets, chunk.local.shape, strict=True))
