"""How one tensor lies over the ranks: the part held here, and the process groups an axis is cut across.

Everything that computes on or stores parts of tensors (optimizers, checkpoints, initial values) asks here, so
that placements are interpreted in one place. A plain tensor is whole on its rank.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.placement_types import Placement, _StridedShard

from data.errors import UserError

Groups = tuple[dist.ProcessGroup, ...]


def local(tensor: Tensor) -> Tensor:
    """The part held by this rank, sharing memory with `tensor`."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def axis_groups(tensor: Tensor, axis: int) -> Groups:
    """The process groups across which `axis` is cut, outermost mesh dimension first."""
    if not isinstance(tensor, DTensor):
        return ()
    mesh = tensor.device_mesh
    return tuple(
        mesh.get_group(i)
        for i, placement in enumerate(tensor.placements)
        if _cuts(placement, axis) and mesh.size(i) > 1
    )


def all_groups(tensor: Tensor) -> Groups:
    """The process groups across which the elements of `tensor` are spread."""
    return tuple(group for axis in range(tensor.ndim) for group in axis_groups(tensor, axis))


def local_chunk(tensor: Tensor) -> tuple[torch.Size, tuple[int, ...], Tensor]:
    """Global shape, offset of the local part along each axis, and the local part itself.

    Every part is one contiguous box of the whole. Raises `UserError` for a placement whose parts are not.
    """
    part = local(tensor)
    if not isinstance(tensor, DTensor):
        return tensor.shape, (0,) * tensor.ndim, part
    offsets = [_box(tensor, axis)[0] for axis in range(tensor.ndim)]
    return tensor.shape, tuple(offsets), part


def is_owner(tensor: Tensor) -> bool:
    """Whether this rank is the one that writes its part, so that each element is stored exactly once.

    Among the ranks that hold the same part it is the first; empty parts have no owner.
    """
    if not isinstance(tensor, DTensor):
        return not dist.is_initialized() or dist.get_rank() == 0
    coordinate = tensor.device_mesh.get_coordinate()
    if coordinate is None or tensor.to_local().numel() == 0:
        return False
    held_by_first = all(
        position == 0
        for position, placement in zip(coordinate, tensor.placements, strict=True)
        if isinstance(placement, Replicate)
    )
    return held_by_first and _first_outside(tensor)


def zeros_without(tensor: Tensor, axis: int | None, dtype: torch.dtype) -> Tensor:
    """Zeros of the shape of `tensor` less `axis` (None keeps all), laid out as `tensor` is."""
    if axis is None:
        return torch.zeros_like(tensor, dtype=dtype, requires_grad=False)
    part = local(tensor)
    values = torch.zeros(_drop(part.shape, axis), dtype=dtype, device=part.device)
    if not isinstance(tensor, DTensor):
        return values
    shape = torch.Size(_drop(tensor.shape, axis))
    placements = [_without_axis(placement, axis) for placement in tensor.placements]
    return DTensor.from_local(
        values, tensor.device_mesh, placements, run_check=False, shape=shape, stride=_strides(shape)
    )


def reduce_sums(parts: Sequence[Tensor], groups: Sequence[Groups]) -> list[Tensor]:
    """Each part summed over its groups: one all-reduce a group for all the parts that need it.

    Every rank of a group must pass the parts in the same order.
    """
    results = list(parts)
    distinct = {group.group_name: group for needed in groups for group in needed}
    for name, group in distinct.items():
        chosen = [i for i, needed in enumerate(groups) if any(g.group_name == name for g in needed)]
        joined = torch.cat([results[i].reshape(-1) for i in chosen])
        dist.all_reduce(joined, group=group)
        pieces = torch.split(joined, [results[i].numel() for i in chosen])
        for i, piece in zip(chosen, pieces, strict=True):
            results[i] = piece.view(results[i].shape)
    return results


def _cuts(placement: Placement, axis: int) -> bool:
    return isinstance(placement, (Shard, _StridedShard)) and placement.dim == axis


def _box(tensor: DTensor, axis: int) -> tuple[int, int]:
    """Start and length of the local part along `axis`."""
    mesh, coordinate = tensor.device_mesh, tensor.device_mesh.get_coordinate()
    if coordinate is None:
        return 0, 0
    plain = [i for i, p in enumerate(tensor.placements) if _cuts(p, axis) and not isinstance(p, _StridedShard)]
    strided = [i for i, p in enumerate(tensor.placements) if isinstance(p, _StridedShard) and p.dim == axis]
    if len(strided) > 1:
        raise UserError(f"a tensor placed as {tensor.placements} is not made of whole boxes; shard it once a dimension")
    # A strided shard is cut last: fully_shard cuts what tensor parallelism had cut before it.
    start, length = 0, tensor.shape[axis]
    for dimension in plain + strided:
        step = -(-length // mesh.size(dimension))
        first = min(length, coordinate[dimension] * step)
        start, length = start + first, min(step, length - first)
    return start, length


def _first_outside(tensor: DTensor) -> bool:
    """Whether this rank's mesh is the first of its kind: a tensor on "dp" alone repeats along "tp"."""
    root = tensor.device_mesh._get_root_mesh()
    coordinate = root.get_coordinate()
    names, own = root.mesh_dim_names or (), tensor.device_mesh.mesh_dim_names or ()
    if coordinate is None:
        return False
    return all(position == 0 for name, position in zip(names, coordinate, strict=False) if name not in own)


def _drop(shape: Sequence[int], axis: int) -> list[int]:
    return [size for i, size in enumerate(shape) if i != axis]


def _without_axis(placement: Placement, axis: int) -> Placement:
    if not isinstance(placement, (Shard, _StridedShard)) or placement.dim < axis:
        return placement
    if placement.dim == axis:
        return Replicate()
    if isinstance(placement, _StridedShard):
        return _StridedShard(placement.dim - 1, split_factor=placement.split_factor)
    return Shard(placement.dim - 1)


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return tuple(strides)
