"""Initial values as Mesh-TensorFlow draws them, each parameter from its own stream.

Truncated normals are cut at two deviations and not rescaled. Adapters start like a feed-forward, as in the
released configuration, so a model with fresh adapters is not the one without them.

A stream is keyed by (seed, name), and element i of a parameter is a function of the stream and i alone
(Philox counter, inverse normal distribution). So any slice can be drawn by itself, on any number of devices,
and holds the same numbers as in the whole tensor; a layout that holds 1/512 of a matrix draws 1/512 of it.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from data.errors import UserError
from model.config import BUCKETS, T5Config
from model.transformer import T5

_ELEMENTS_AT_ONCE = 2**22


def initialize(model: T5, seed: int) -> None:
    """Set every parameter of a model whose parameters are whole tensors, in place."""
    for name, parameter in model.named_parameters():
        value = initial_value(name, tuple(parameter.shape), model.config, seed)
        with torch.no_grad():
            parameter.copy_(value)


def initial_value(name: str, shape: Sequence[int], config: T5Config, seed: int) -> Tensor:
    """The whole parameter `name`, float32 on the CPU; `shape` is its whole shape."""
    return initial_slice(name, shape, [(0, size) for size in shape], config, seed)


def initial_slice(
    name: str, shape: Sequence[int], ranges: Sequence[tuple[int, int]], config: T5Config, seed: int
) -> Tensor:
    """The part of `initial_value` within `ranges`, one (start, stop) a dimension; float32 on the CPU.

    Costs time and memory of the part alone. Raises `UserError` for a name that no model has.
    """
    sizes = [stop - start for start, stop in ranges]
    draw = _distribution(name, config)
    if draw is None:
        return torch.ones(sizes)
    stream = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
    key = np.frombuffer(stream, dtype="<u8")
    out = torch.empty(math.prod(sizes))
    filled = 0
    for start, stop in _runs(shape, ranges):
        for first in range(start, stop, _ELEMENTS_AT_ONCE):
            last = min(stop, first + _ELEMENTS_AT_ONCE)
            out[filled : filled + last - first] = draw(_uniform(key, first, last))
            filled += last - first
    return out.reshape(sizes)


_Draw = Callable[[Tensor], Tensor]


def _distribution(name: str, config: T5Config) -> _Draw | None:
    """How uniform numbers become values of `name`; None for a norm's scale, which starts at 1."""
    parts = name.split(".")
    kind = ".".join(parts[-3:-1])
    owner = parts[-2] if len(parts) > 1 else ""
    if owner.endswith("norm"):
        return None
    fan_in = {
        "head": config.d_model,
        "feed_forward.wi": config.d_model,
        "feed_forward.gate": config.d_model,
        "feed_forward.wo": config.d_ff,
        "adapter.down": config.d_model,
        "adapter.up": config.adapter or 1,
    }
    if kind in fan_in:
        return _truncated_normal(fan_in[kind] ** -0.5)
    deviation = {
        "q": (config.d_model * config.d_kv) ** -0.5,
        "k": config.d_model**-0.5,
        "v": config.d_model**-0.5,
        "o": config.inner**-0.5,
        "embedding": 1.0,
    }
    if owner in deviation:
        return _normal(deviation[owner])
    if owner == "relative_bias":
        return _uniform_within(math.sqrt(6 / (config.heads + BUCKETS)))
    raise UserError(f"no initial value is known for the parameter {name!r}; it belongs to no T5 model")


def _normal(deviation: float) -> _Draw:
    return lambda uniform: torch.special.ndtri(uniform) * deviation


def _truncated_normal(deviation: float) -> _Draw:
    # Inverting the distribution between -2 and 2 deviations needs one number an element, as rejection does not.
    low = 0.5 * math.erfc(math.sqrt(2))
    return lambda uniform: torch.special.ndtri(low + uniform * (1 - 2 * low)) * deviation


def _uniform_within(limit: float) -> _Draw:
    return lambda uniform: (2 * uniform - 1) * limit


def _uniform(key: np.ndarray, start: int, stop: int) -> Tensor:
    """Elements start..stop of the stream: float64 strictly between 0 and 1."""
    block = start // 4
    stream = np.random.Generator(np.random.Philox(key=key, counter=block))
    drawn = torch.from_numpy(stream.random(stop - 4 * block)[start - 4 * block :])
    return drawn.clamp_(min=2.0**-54)


def _runs(shape: Sequence[int], ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Flat (start, stop) runs that make up the ranges of a row-major tensor, in order."""
    if not shape:
        yield 0, 1
        return
    (start, stop), stride = ranges[0], math.prod(shape[1:])
    if all(r == (0, size) for r, size in zip(ranges[1:], shape[1:], strict=True)):
        if stop > start:
            yield start * stride, stop * stride
        return
    for row in range(start, stop):
        for first, last in _runs(shape[1:], ranges[1:]):
            yield row * stride + first, row * stride + last
