"""Which parameters train: all, adapters, or more blocks with every episode (paper section 3.5.1, Table 10).

Everything here is names, computed from the config and the step alone, so that optimizers, layouts and
checkpoints can ask the same question anywhere.
"""

from collections.abc import Collection
from typing import Literal, get_args

from data.errors import UserError
from model.config import T5Config
from model.source import parameter_shapes
from model.transformer import T5

Method = Literal["all", "adapters", "adapters_and_norms", "gradual_unfreezing"]

EPISODES = 12
"""Equal parts of a gradually unfreezing run, as in the paper."""


def trained_names(
    config: T5Config, method: Method, step: int = 0, steps: int = 1, episodes: int = EPISODES
) -> frozenset[str]:
    """Names of the parameters that train at `step` (from 0) of `steps`.

    `adapters_and_norms` is the paper's text: the adapters and every norm of the model. `adapters` is the
    released configuration: the adapters and their own norm. `step`, `steps` and `episodes` matter to
    `gradual_unfreezing` alone. Raises `UserError` where the method does not fit the model.
    """
    if method not in get_args(Method):
        raise UserError(f"no training method is named {method!r}; choose one of {', '.join(get_args(Method))}")
    names = frozenset(parameter_shapes(config))
    if method == "all":
        return names
    if method == "gradual_unfreezing":
        number = episode(step, steps, episodes)
        return frozenset(name for name in names if _unfrozen(name, config, number, episodes))
    if config.adapter is None:
        raise UserError(f"method {method} trains adapters, but the model has none; set model.adapter to their width")
    norms = method == "adapters_and_norms"
    return frozenset(n for n in names if ".adapter" in n or (norms and n.endswith("norm.weight")))


def episode(step: int, steps: int, episodes: int = EPISODES) -> int:
    """The episode (from 1) of `step` (from 0): all have the same length, the last takes the remainder."""
    if not 1 <= episodes <= steps:
        raise UserError(f"{steps} steps cannot be cut into {episodes} episodes; give 1 to {steps}")
    return min(step // (steps // episodes), episodes - 1) + 1


def freeze(model: T5, trained: Collection[str]) -> None:
    """Let exactly the named parameters of `model` have gradients."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)


def _unfrozen(name: str, config: T5Config, number: int, episodes: int) -> bool:
    """Embeddings and final norms train from the start, blocks from the top of each stack downward.

    The relative-bias tables belong to the first blocks in the original's code, so they come last.
    """
    stack, *rest = name.split(".")
    if stack not in ("encoder", "decoder") or rest[0] == "norm":
        return True
    layers = config.encoder_layers if stack == "encoder" else config.decoder_layers
    block = int(rest[1]) if rest[0] == "blocks" else 0
    # Where blocks and episodes differ in number, the last episode still trains every block.
    return layers - block <= -(-layers * number // episodes)
