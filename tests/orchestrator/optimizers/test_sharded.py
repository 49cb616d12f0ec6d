"""The optimizers on parameters cut in every way a layout cuts them: the same numbers in few collectives."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from orchestrator.optimizers.adafactor import Adafactor
from orchestrator.optimizers.adamw import AdamW
from orchestrator.optimizers.base import ShardedOptimizer
from orchestrator.parallel.shards import local_chunk
from tests.orchestrator.optimizers.reference import SHAPES, NaiveAdafactor, NaiveAdamW, gradients, start
from tests.orchestrator.parallel.cases import Part, assemble, part
from tests.ranks import run_ranks

STEPS = 5
AXES = {"table": 0, "wide": 1, "tall": 0, "small": 0, "norm": None, "scalar": None}
"""The axis that tensor parallelism cuts; rows of "wide" and "tall" do not divide by 4."""

Make = Callable[..., ShardedOptimizer]


class Holder(nn.Module):
    """One parameter, so that fully_shard has a module to cut."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)


def cut(name: str, value: np.ndarray, mesh: DeviceMesh) -> nn.Parameter:
    weight = torch.tensor(value, dtype=torch.float32)
    axis = AXES[name]
    if axis is not None and mesh["tp"].size() > 1:
        weight = distribute_tensor(weight, mesh["tp"], [Shard(axis)])
    module = Holder(weight)
    if weight.ndim:
        fully_shard(module, mesh=mesh["dp"])
    return module.weight


def part_of(parameter: Tensor, value: np.ndarray) -> Tensor:
    """The part of `value` that lies where this rank's part of `parameter` does, placed as it is."""
    _, offsets, values = local_chunk(parameter.detach())
    box = tuple(slice(start, start + size) for start, size in zip(offsets, values.shape, strict=True))
    piece = torch.tensor(value[box], dtype=torch.float32).reshape(values.shape)
    if not isinstance(parameter, DTensor):
        return piece
    mesh, placements = parameter.device_mesh, parameter.placements
    return DTensor.from_local(
        piece, mesh, placements, run_check=False, shape=parameter.shape, stride=parameter.stride()
    )


def train(rank: int, shape: tuple[int, int], make: Make) -> tuple[dict[str, Part], dict[str, dict[str, Part]], int]:
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("dp", "tp"))
    weights = {name: cut(name, value, mesh) for name, value in start().items()}
    optimizer = make(weights.values())
    reductions: list[object] = []
    original = dist.all_reduce

    def counted(*args: object, **kwargs: object) -> object:
        reductions.append(kwargs["group"])
        return original(*args, **kwargs)  # type: ignore[arg-type]

    dist.all_reduce = counted  # type: ignore[assignment]
    for step in range(1, STEPS + 1):
        optimizer.lr = 0.01 / step
        for name, value in gradients(step).items():
            weights[name].grad = part_of(weights[name], value)
        reductions.clear()
        optimizer.step()
    state = {
        name: {slot: part(tensor) for slot, tensor in optimizer.state[weight].items() if slot != "step"}
        for name, weight in weights.items()
    }
    return {name: part(weight.detach()) for name, weight in weights.items()}, state, len(reductions)


def check(ranks: list, naive: NaiveAdafactor | NaiveAdamW) -> None:
    expected = start()
    for step in range(1, STEPS + 1):
        naive.step(expected, gradients(step), 0.01 / step)
    for name in SHAPES:
        value = assemble([rank[0][name] for rank in ranks])
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-5 * np.abs(expected[name]).max())


@pytest.mark.parametrize("shape", [(2, 1), (1, 2), (2, 2), (4, 1)], ids=lambda s: f"{s[0]}x{s[1]}")
class TestSharded:
    """dp x tp."""

    def test_adafactor(self, shape: tuple[int, int]) -> None:
        ranks = run_ranks(shape[0] * shape[1], train, shape, Adafactor)
        naive = NaiveAdafactor()
        check(ranks, naive)
        wanted = {
            "table": {"row": naive.slots["table"]["C"], "column": naive.slots["table"]["R"]},
            "wide": {"row": naive.slots["wide"]["R"], "column": naive.slots["wide"]["C"]},
            "small": {"moment": naive.slots["small"]["V"]},
        }
        for name, slots in wanted.items():
            for slot, value in slots.items():
                found = assemble([rank[1][name][slot] for rank in ranks])
                np.testing.assert_allclose(found, value, rtol=1e-4, err_msg=f"{name}/{slot}")
        # Two rounds, each one all-reduce a mesh dimension that cuts anything.
        assert ranks[0][2] == 2 * sum(size > 1 for size in shape)

    def test_adamw(self, shape: tuple[int, int]) -> None:
        ranks = run_ranks(shape[0] * shape[1], train, shape, AdamW)
        check(ranks, NaiveAdamW())
        assert ranks[0][2] == sum(size > 1 for size in shape)
