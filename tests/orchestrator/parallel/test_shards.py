"""What is held where: boxes, owners and batched sums, for every kind of placement."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from orchestrator.parallel.shards import (
    all_groups,
    axis_groups,
    is_owner,
    local,
    local_chunk,
    reduce_sums,
    zeros_without,
)
from tests.orchestrator.parallel.cases import Part, assemble, part
from tests.ranks import run_ranks

WHOLE = torch.arange(22 * 6, dtype=torch.float32).view(22, 6)


def test_a_plain_tensor_is_whole_here() -> None:
    shape, offsets, values = local_chunk(WHOLE)
    assert (shape, offsets) == (WHOLE.shape, (0, 0))
    assert values is WHOLE
    assert is_owner(WHOLE)
    assert all_groups(WHOLE) == ()


def placed() -> dict[str, DTensor]:
    """`WHOLE` in every placement that a layout makes of a matrix, uneven ones included."""
    grid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    line = init_device_mesh("cpu", (4,), mesh_dim_names=("dp",))
    tensors = {
        "rows": distribute_tensor(WHOLE, line, [Shard(0)]),
        "fewer rows than ranks": distribute_tensor(WHOLE[:3], line, [Shard(0)]),
        "copies": distribute_tensor(WHOLE, line, [Replicate()]),
        "rows and columns": distribute_tensor(WHOLE, grid, [Shard(0), Shard(1)]),
        "rows, copied": distribute_tensor(WHOLE, grid, [Shard(0), Replicate()]),
        "columns, copied": distribute_tensor(WHOLE, grid, [Replicate(), Shard(1)]),
        "one dimension of the mesh": distribute_tensor(WHOLE, grid["dp"], [Shard(0)]),
    }
    for axis, name in ((0, "twice the rows"), (1, "row parallel")):
        module = nn.Linear(6, 22, bias=False)
        module.weight = nn.Parameter(distribute_tensor(WHOLE, grid["tp"], [Shard(axis)]))
        fully_shard(module, mesh=grid["dp"])
        tensors[name] = module.weight.detach()  # type: ignore[assignment]
    return tensors


def boxes(rank: int) -> dict[str, tuple[Part, list[Part], int, int]]:
    """By placement: the part held, those of slots less one axis, and the sizes of the axes' groups."""
    found = {}
    for name, tensor in placed().items():
        slots = []
        for axis in (0, 1):
            slot = zeros_without(tensor, axis, torch.float64)
            # Each rank writes what belongs in its part; assembling checks that the parts are where they say.
            _, (start,), values = local_chunk(slot)
            values += torch.arange(start, start + len(values))
            slots.append(part(slot))
        ranks = [int(np.prod([group.size() for group in axis_groups(tensor, axis)])) for axis in (0, 1)]
        found[name] = (part(tensor), slots, ranks[0], ranks[1])
    return found


def test_every_placement_is_made_of_boxes_with_one_owner_each() -> None:
    ranks = run_ranks(4, boxes)
    for name in ranks[0]:
        whole = assemble([rank[name][0] for rank in ranks])
        np.testing.assert_array_equal(whole, WHOLE[: len(whole)].numpy(), err_msg=name)
        for axis in (0, 1):
            slot = assemble([rank[name][1][axis] for rank in ranks])
            np.testing.assert_array_equal(slot, np.arange(whole.shape[1 - axis]), err_msg=name)
    assert {name: found[2:] for name, found in ranks[0].items()} == {
        "rows": (4, 1),
        "fewer rows than ranks": (4, 1),
        "copies": (1, 1),
        "rows and columns": (2, 2),
        "rows, copied": (2, 1),
        "columns, copied": (1, 2),
        "one dimension of the mesh": (2, 1),
        "twice the rows": (4, 1),
        "row parallel": (2, 2),
    }


def sums(rank: int) -> tuple[int, bool]:
    calls = 0
    original = dist.all_reduce

    def counted(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        return original(*args, **kwargs)  # type: ignore[arg-type]

    tensors = placed()
    parts = [local(t).sum(axis, keepdim=True) for t in tensors.values() for axis in (0, 1)]
    groups = [axis_groups(t, axis) for t in tensors.values() for axis in (0, 1)]
    dist.all_reduce = counted  # type: ignore[assignment]
    found = reduce_sums(parts, groups)
    good = True
    for (name, tensor), (rows, columns) in zip(tensors.items(), zip(found[::2], found[1::2], strict=True), strict=True):
        whole = WHOLE[:3] if name == "fewer rows than ranks" else WHOLE
        _, (row, column), values = local_chunk(tensor)
        good &= torch.equal(rows[0], whole.sum(0)[column : column + values.shape[1]])
        good &= torch.equal(columns[:, 0], whole.sum(1)[row : row + values.shape[0]])
    return calls, good


def test_many_sums_cost_one_all_reduce_a_group() -> None:
    # The groups are those of the line, and the two of the grid.
    assert run_ranks(4, sums) == [(3, True)] * 4


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_slots_of_a_plain_tensor(axis: int | None) -> None:
    slot = zeros_without(WHOLE, axis, torch.float64)
    assert slot.dtype == torch.float64
    assert slot.shape == {None: (22, 6), 0: (6,), 1: (22,)}[axis]
