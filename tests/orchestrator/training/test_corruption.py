"""Silent corruption: one flipped bit in memory or arithmetic names its rank."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from orchestrator.checkpoint import Chunk
from orchestrator.training.corruption import Corruption, compare, digest, held, require_sound


def chunk(tensor: Tensor, offset: int = 0) -> Chunk:
    return Chunk((8,), (offset,), tensor, True)


def flipped(tensor: Tensor) -> Tensor:
    """A copy with the lowest bit of one value changed."""
    copy = tensor.clone()
    copy.view(torch.int32)[3] ^= 1
    return copy


def test_replicas_that_differ_by_a_bit_are_named() -> None:
    sound = torch.arange(4.0)
    parts = [held({"param/w": chunk(value)}) for value in (sound, sound, flipped(sound))]
    assert compare([("a", "a")] * 3, parts) == [(2, "w@(0,)")]


def test_different_parts_are_not_compared_and_optimizer_state_is_left_out() -> None:
    parts = [held({"param/w": chunk(torch.ones(4) * rank, 4 * rank), "optimizer/w/row": chunk(torch.ones(4) * rank)})
             for rank in range(2)]  # fmt: skip
    assert compare([("a", "a")] * 2, parts) == []


def test_a_step_that_does_not_repeat_names_its_rank() -> None:
    assert compare([("a", "a"), ("b", "c")], [{}, {}]) == [(1, "a step computed twice")]


def test_all_ranks_raise_alike() -> None:
    # Sums of losses are numbers, not rows.
    sound = torch.tensor(4.0)
    answers = [torch.tensor(1.0), torch.tensor(1.5)]

    def forward() -> Sequence[Tensor]:
        return [answers.pop(0)]

    def gather(mine: object) -> list:
        return [[(digest([sound]), digest([sound])), {}], mine]

    with pytest.raises(Corruption, match="rank 1 on node-b: a step computed twice"):
        require_sound(forward, {}, gather, ["node-a", "node-b"])
    require_sound(lambda: [sound], {"param/w": chunk(sound)}, lambda mine: [mine], ["node-a"])
