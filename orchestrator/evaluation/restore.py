"""A trained model, whole, on one device."""

from __future__ import annotations

import torch

from model.convert import open_folder
from model.source import load as load_source
from model.transformer import T5
from orchestrator.checkpoint import Chunk, load
from orchestrator.initial import Initial, find


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
    load(initial.storage, initial.manifest, _whole(model), partial=True)
    return model.to(device=device, dtype=dtype)


def _whole(model: T5) -> dict[str, Chunk]:
    return {
        f"param/{name}": Chunk(tuple(value.shape), (0,) * value.ndim, value.detach(), True)
        for name, value in model.named_parameters()
    }
