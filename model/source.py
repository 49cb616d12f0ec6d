"""A model at rest, wherever it lies: what every reader of folders and runs gives and every writer takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from data.errors import UserError
from model.config import T5Config
from model.transformer import T5

VOCABULARY = "vocabulary/sentencepiece.model"
"""Where exports and prepared corpora keep their SentencePiece model."""


@dataclass(frozen=True)
class Source:
    """Shape, parameters by name (each read when asked for), and vocabulary (the bytes of its model) if known."""

    config: T5Config
    parameters: Mapping[str, Tensor]
    vocabulary: bytes | None = None


@cache
def parameter_shapes(config: T5Config) -> dict[str, torch.Size]:
    """Names and whole shapes of a model's parameters, in order; allocates nothing."""
    with torch.device("meta"):
        return {name: parameter.shape for name, parameter in T5(config).named_parameters()}


def require_names(source: Source, where: str) -> Source:
    """`source` itself; `UserError` where its names are not those of its config."""
    expected = parameter_shapes(source.config).keys()
    if wrong := sorted(expected ^ source.parameters.keys()):
        what = "lacks the" if wrong[0] in expected else "holds an unknown"
        raise UserError(f"{where} {what} parameter {wrong[0]!r} ({len(wrong)} differ); its files and config disagree")
    return source


def load(source: Source) -> T5:
    """The model, whole and float32 on the CPU."""
    with torch.device("meta"):
        model = T5(source.config)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(source.parameters[name])
    return model
