"""Tensor parallelism by a table: which modules hold a part of their weight, and where partial sums meet.

A module of the table keeps its weight as a DTensor cut along one axis of the "tp" mesh, and its code, written
for one device, sees the local part. FairScale's regions stand at the borders: where a replicated activation
enters (its gradient is summed over the group) and where partial results leave (summed in forward). Attention is
cut by heads, feed-forward by inner width, embedding and output matrix by words, the relative bias by heads.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.distributed as dist
from fairscale.nn.model_parallel import initialize as fairscale
from fairscale.nn.model_parallel.mappings import (
    copy_to_model_parallel_region,
    gather_from_model_parallel_region,
    reduce_from_model_parallel_region,
)
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.nn import functional as F

from model.dropout import Dropout
from model.transformer import T5


@dataclass(frozen=True)
class Cut:
    """What tensor parallelism does to the modules whose names match `pattern`."""

    pattern: str
    axis: int | None = None
    """Axis of the weight that is cut; None for a module that only marks a border."""
    enters: tuple[tuple[int, str], ...] = ()
    """Arguments (position, name) that are replicated outside and split work inside."""
    leaves: bool = False
    """Whether the output is a partial sum."""


TABLE = (
    Cut("*attention", enters=((0, "x_BTD"), (3, "source_BSD"))),
    Cut("*attention.[qkv]", axis=0),
    Cut("*attention.o", axis=1, leaves=True),
    Cut("*.feed_forward", enters=((0, "x"),)),
    Cut("*.feed_forward.wi", axis=0),
    Cut("*.feed_forward.gate", axis=0),
    Cut("*.feed_forward.wo", axis=1, leaves=True),
    Cut("*.relative_bias", axis=0),
    Cut("embedding", axis=0, leaves=True),
    Cut("head", axis=0),
)
"""What no line names (norms, adapters) is replicated: every rank of a group computes the same."""

SPLIT_DROPOUTS = {"*attention.dropout": "heads", "*.feed_forward.dropout": "d_ff"}
"""Dropouts that act on split channels, and the setting that counts those: they start at the rank's first."""


def apply_tensor_parallel(model: T5, mesh: DeviceMesh) -> None:
    """Cut a model whose parameters are on the meta device along `mesh`, in place."""
    group = mesh.get_group()
    _initialize_fairscale(mesh.size(), group)
    rank, degree = mesh.get_local_rank(), mesh.size()
    for cut in TABLE:
        for module in _matching(model, cut.pattern):
            if cut.axis is not None:
                _cut_weight(module, cut.axis, mesh)
            if cut.enters:
                module.register_forward_pre_hook(_enter(cut.enters), with_kwargs=True)
            if cut.leaves:
                module.register_forward_hook(_leave)
    for pattern, setting in SPLIT_DROPOUTS.items():
        for module in _matching(model, pattern):
            assert isinstance(module, Dropout)
            module.offset = rank * (getattr(model.config, setting) // degree)
    _become(model, _GatheredLogits)


# They sum in place inside autograd functions, which a compiled graph must not take in.
_copy_to_region = torch.compiler.disable(copy_to_model_parallel_region)  # type: ignore[no-untyped-call]
_reduce_from_region = torch.compiler.disable(reduce_from_model_parallel_region)  # type: ignore[no-untyped-call]


class SplitVocabulary:
    """The `model.loss.Vocabulary` of ranks that hold consecutive rows of the output matrix."""

    def __init__(self, weight: DTensor) -> None:
        mesh = weight.device_mesh
        self.group = mesh.get_group("tp")
        self.first_row = mesh.get_local_rank("tp") * (weight.shape[0] // mesh["tp"].size())

    def all_maximum(self, x: Tensor) -> Tensor:
        """Elementwise maximum over the tensor-parallel group."""
        dist.all_reduce(x, dist.ReduceOp.MAX, self.group)
        return x

    def all_sum(self, x: Tensor) -> Tensor:
        """Elementwise sum over the tensor-parallel group."""
        dist.all_reduce(x, group=self.group)
        return x


class _LocalWeight(nn.Module):
    """Mixed in before a module's own class: its code reads the local part of a weight that is cut."""

    @property
    def weight(self) -> Tensor:
        weight = self._parameters["weight"]
        assert isinstance(weight, DTensor)
        # Between uses fully_shard has cut the weight further: what it then holds is for fully_shard alone.
        return weight.to_local() if weight.device_mesh.ndim == 1 else weight


class _SplitEmbedding(_LocalWeight):
    """Looks up the ids whose rows are held here and gives zeros for the others."""

    def forward(self, ids: Tensor) -> Tensor:
        weight = self.weight
        local = ids - fairscale.get_model_parallel_rank() * weight.shape[0]
        here = (local >= 0) & (local < weight.shape[0])
        found: Tensor = F.embedding(local.where(here, 0), weight) * here[..., None]
        return found


class _GatheredLogits(nn.Module):
    """Logits of the whole vocabulary on every rank, for decoding."""

    def project(self, hidden: Tensor) -> Tensor:
        logits: Tensor = super().project(copy_to_model_parallel_region(hidden))  # type: ignore[misc]
        return gather_from_model_parallel_region(logits)  # type: ignore[no-any-return]


def _become(module: nn.Module, mixin: type[nn.Module]) -> None:
    own = type(module)
    module.__class__ = type(own.__name__, (mixin, own), {})


def _cut_weight(module: nn.Module, axis: int, mesh: DeviceMesh) -> None:
    weight = module._parameters["weight"]
    assert weight is not None
    shape = list(weight.shape)
    shape[axis] //= mesh.size()
    part = DTensor.from_local(weight.new_empty(shape), mesh, [Shard(axis)], run_check=False)
    module._parameters["weight"] = nn.Parameter(part, requires_grad=weight.requires_grad)
    _become(module, _SplitEmbedding if isinstance(module, nn.Embedding) else _LocalWeight)


def _enter(arguments: tuple[tuple[int, str], ...]) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        values, named = list(args), dict(kwargs)
        for position, name in arguments:
            if position < len(values) and values[position] is not None:
                values[position] = _copy_to_region(values[position])
            elif named.get(name) is not None:
                named[name] = _copy_to_region(named[name])
        return tuple(values), named

    return hook


def _leave(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return _reduce_from_region(output)  # type: ignore[no-any-return]


def _matching(model: nn.Module, pattern: str) -> Iterator[nn.Module]:
    return (module for name, module in model.named_modules() if fnmatchcase(name, pattern))


def _initialize_fairscale(degree: int, group: dist.ProcessGroup) -> None:
    if fairscale.model_parallel_is_initialized():
        if fairscale.get_model_parallel_world_size() == degree:
            return
        fairscale.destroy_model_parallel()
    # It prints its sizes; the run reports them itself.
    with contextlib.redirect_stdout(io.StringIO()):
        fairscale.initialize_model_parallel(degree)
    ranks = dist.get_process_group_ranks(fairscale.get_model_parallel_group())
    assert ranks == dist.get_process_group_ranks(group), "FairScale's groups are not those of the mesh"
