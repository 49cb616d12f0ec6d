"""How many elements of parameters and optimizer state a device holds, by the tables that also cut the model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

import torch
from torch import nn

from model.config import T5Config
from model.source import parameter_shapes
from orchestrator.forecast.scenario import Scenario
from orchestrator.optimizers.adafactor import Adafactor
from orchestrator.optimizers.adamw import AdamW
from orchestrator.parallel.tensor_parallel import TABLE

MASTER = 4
"""Bytes of an element of weights, summed gradients and state: float32 always."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """One parameter of a scenario; counts are elements."""

    name: str
    block: str | None
    """Name of the block it belongs to ("decoder.blocks.3"), None for what the root holds."""
    cut: Shape
    """Its shape within one tensor-parallel rank."""
    trains: bool
    held: int
    """On the device that holds most."""
    state: int
    whole_state: int

    @property
    def used(self) -> int:
        """Elements a device computes with."""
        return math.prod(self.cut)


def pieces(scenario: Scenario) -> list[Piece]:
    """All parameters of `scenario`'s model, in order; nothing is allocated."""
    kind = scenario.model, scenario.layout.tensor, scenario.shards, scenario.optimizer, scenario.trained
    return list(_pieces(*kind))


@cache
def _pieces(
    model: T5Config, tensor: int, shards: int, optimizer: str, trained: frozenset[str] | None
) -> tuple[Piece, ...]:
    made = []
    for name, whole in parameter_shapes(model).items():
        shape = tuple(whole)
        cut = list(shape)
        axis = cut_axis(name)
        if axis is not None:
            cut[axis] //= tensor
        held = [-(-cut[0] // shards), *cut[1:]]
        trains = trained is None or name in trained
        slots = _slots(optimizer, shape) if trains else ()
        parts = name.split(".")
        block = ".".join(parts[:3]) if parts[1] == "blocks" else None
        state = sum(_without(held, shape, slot) for slot in slots)
        whole_state = sum(math.prod(slot) for slot in slots)
        made.append(Piece(name, block, tuple(cut), trains, math.prod(held), state, whole_state))
    return tuple(made)


def checkpoint_bytes(scenario: Scenario) -> int:
    """Tensor bytes of a checkpoint: whole float32 weights, optimizer state and step counts of what trains."""
    shapes = parameter_shapes(scenario.model)
    total = 0
    for piece in pieces(scenario):
        total += MASTER * (math.prod(shapes[piece.name]) + piece.whole_state) + (8 if piece.trains else 0)
    return total


def cut_axis(name: str) -> int | None:
    """The axis of a parameter along which tensor parallelism cuts it, None where every rank holds all of it."""
    module = name.removesuffix(".weight")
    return next((cut.axis for cut in TABLE if cut.axis is not None and fnmatchcase(module, cut.pattern)), None)


@cache
def _slots(optimizer: str, shape: Shape) -> tuple[Shape, ...]:
    """Shapes of the state of one whole parameter, from the optimizer itself."""
    parameter = nn.Parameter(torch.empty(shape, device="meta"))
    made = {"adafactor": Adafactor, "adamw": AdamW}[optimizer]([parameter])
    return tuple(tuple(slot.shape) for name, slot in made.state[parameter].items() if name != "step")


def _without(held: list[int], shape: Shape, slot: Shape) -> int:
    """Elements held of a slot that lacks an axis of the parameter, or none."""
    if len(slot) == len(shape):
        return math.prod(held)
    lacking = next(i for i in range(len(shape)) if shape[:i] + shape[i + 1 :] == slot)
    return math.prod(held) // held[lacking]


def by_block(all_pieces: list[Piece]) -> Iterator[tuple[str | None, list[Piece]]]:
    """Pieces grouped by block, the root's under None."""
    names = dict.fromkeys(piece.block for piece in all_pieces)
    return ((name, [piece for piece in all_pieces if piece.block == name]) for name in names)
