"""Models at hand written as exports."""

from __future__ import annotations

from pathlib import Path

from model.convert import write_export
from model.source import Source
from model.transformer import T5


def export_model(model: T5, folder: Path, vocabulary: bytes | None = None) -> None:
    """Write a model whose parameters are whole tensors as an export."""
    write_export(Source(model.config, dict(model.named_parameters()), vocabulary), folder)
