"""Weights by address: a run, one checkpoint of it, an export or a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data.errors import UserError
from data.storage import Missing, Storage, open_storage
from data.vocabulary import Vocabulary
from model.config import T5Config
from model.convert import open_folder
from model.source import load as load_source
from model.transformer import T5
from orchestrator.checkpoint import Chunk, Manifest, load, newest
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
    run_url, step_folder = source.rstrip("/"), None
    if f"/{ROOT}/" in run_url:
        run_url, _, step_folder = run_url.partition(f"/{ROOT}/")
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


def restore(source: str | Initial, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> T5:
    """The whole model on one device, in evaluation use; its bytes are checked against the manifest."""
    initial = find(source) if isinstance(source, str) else source
    if initial.folder is not None:
        return load_source(open_folder(initial.folder)).to(device=device, dtype=dtype)
    assert initial.storage is not None
    assert initial.manifest is not None
    with torch.device("meta"):
        model = T5(initial.config)
    model.to_empty(device="cpu")
    load(initial.storage, initial.manifest, parameter_chunks(dict(model.named_parameters())), partial=True)
    return model.to(device=device, dtype=dtype)


def parameter_chunks(parameters: Mapping[str, Any]) -> dict[str, Chunk]:
    """Whole, unsharded parameters as what a checkpoint loads into."""
    return {
        f"param/{name}": Chunk(tuple(value.shape), (0,) * value.ndim, value.detach(), True)
        for name, value in parameters.items()
    }
