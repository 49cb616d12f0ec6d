"""Hugging Face's T5 with the weights of one of ours, in its best form: no masks, untied where the version is."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from model import huggingface
from model.config import T5Config
from model.transformer import T5


def peer(config: T5Config, weights: T5, attention: str) -> Any:
    """A `T5ForConditionalGeneration` in training mode, `attention` being "eager" or "sdpa".

    Built from a configuration their model always ties its output to the embedding; where ours does not, it gets an
    output matrix of its own.
    """
    import transformers

    settings = {name: value for name, value in huggingface.config_to(config).items() if name != "architectures"}
    theirs = transformers.T5Config(**settings, attn_implementation=attention)
    model = transformers.T5ForConditionalGeneration(theirs).train()
    if not config.tied:
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))
    ours = weights.state_dict()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, source in huggingface.names(config).items():
            parameters[name].copy_(huggingface.turn(source, ours[source]))
    if sum(parameter.numel() for parameter in model.parameters()) != config.parameters():
        raise RuntimeError("the peer has another number of parameters than our model: it was not built alike")
    return model
