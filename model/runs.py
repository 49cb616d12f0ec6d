"""The parameters of a run's checkpoint, one at a time, as a source to convert from.

The checkpoint's format belongs to the orchestrator; it is imported when a run is opened, so that nothing else in
this package depends on it.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from data.errors import UserError
from data.storage import open_storage
from model.config import T5Config
from model.source import VOCABULARY, Source, require_names

PREFIX = "param/"


def open_run(url: str, step: int | None = None) -> Source:
    """The model of a run at `url` (a path or an address of storage): of its newest good checkpoint, or of `step`.

    Every byte is checked against its checksum first. Raises `UserError` where there is no such checkpoint or it
    is damaged.
    """
    from orchestrator.checkpoint import catalog

    storage = open_storage(url)
    if step is None:
        found = catalog.newest(storage)
        if found is None:
            raise UserError(f"{url} holds no checkpoint; give the folder of a run that saved one")
        manifest = found.manifest
    else:
        folders = [folder for folder in catalog.scan(storage) if folder.committed]
        chosen = [folder for folder in folders if folder.step == step]
        if not chosen:
            steps = ", ".join(str(folder.step) for folder in folders) or "none"
            raise UserError(f"{url} holds no checkpoint of step {step}; it has: {steps}")
        manifest = catalog.read_manifest(storage, chosen[0])
        catalog.verify(storage, manifest)
    payload = manifest.payload
    if "model" not in payload:
        raise UserError(f"{url} holds checkpoints that do not say what model they are of; give the folder of a run")
    parameters = _Parameters(catalog, storage, manifest)
    source = Source(T5Config.from_dict(payload["model"]), parameters, _vocabulary(payload))
    return require_names(source, manifest.folder)


class _Parameters(Mapping[str, Tensor]):
    """The checkpoint's tensors under `param/`; each is put together from its parts when it is asked for."""

    def __init__(self, catalog: Any, storage: Any, manifest: Any) -> None:
        self._catalog, self._storage, self._manifest = catalog, storage, manifest
        self._stored = {
            name.removeprefix(PREFIX): stored for name, stored in manifest.tensors.items() if name.startswith(PREFIX)
        }

    def __getitem__(self, name: str) -> Tensor:
        from orchestrator.checkpoint.format import dtype_of

        stored = self._stored[name]
        dtype = dtype_of(stored.dtype)
        whole = torch.empty(stored.shape, dtype=dtype)
        for part in stored.chunks:
            length = math.prod(part.sizes) * dtype.itemsize
            data = self._catalog.read_range(self._storage, self._manifest, part.file, part.begin, length)
            place = tuple(slice(o, o + s) for o, s in zip(part.offsets, part.sizes, strict=True))
            whole[place] = torch.frombuffer(bytearray(data), dtype=dtype).view(part.sizes)
        return whole

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def _vocabulary(payload: Mapping[str, Any]) -> bytes | None:
    """The vocabulary of the run's corpus, if the corpus is still there and unchanged."""
    try:
        model = open_storage(payload["config"]["corpus"]).read(VOCABULARY)
    except (UserError, KeyError, OSError):
        return None
    return model if hashlib.sha256(model).hexdigest() == payload["vocabulary"] else None
