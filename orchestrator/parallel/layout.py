"""The layout of a model over devices, and the checks that refuse an impossible one before anything is allocated."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from data.errors import UserError
from model.config import T5Config

Recompute = Literal["none", "feed_forward", "block"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a model is spread and run; world size / (tensor * replicas) ranks share each parameter's shards."""

    tensor: int = 1
    """Tensor-parallel degree: ranks that split heads, feed-forward width and vocabulary."""
    replicas: int = 1
    """Copies of the sharded model (hybrid sharding): one a node keeps gathers inside it."""
    recompute: Recompute = "none"
    """What backward computes again: nothing, feed-forwards (whose inner width is most of what the large models
    keep), or whole blocks."""
    compile: bool = False
    """Whether each block is compiled."""
    precision: Precision = "float32"
    """Of activations and matrix products; master weights, gradients' sums and state are always float32."""

    def __post_init__(self) -> None:
        if self.tensor < 1 or self.replicas < 1:
            raise UserError(f"layout has tensor {self.tensor} and replicas {self.replicas}; both must be 1 or more")
        if self.recompute not in get_args(Recompute):
            raise UserError(f"layout.recompute is {self.recompute!r}; choose one of {', '.join(get_args(Recompute))}")
        if self.precision not in get_args(Precision):
            why = ", but T5 overflows in fp16" if str(self.precision) in ("float16", "fp16", "half") else ""
            raise UserError(f"layout.precision is {self.precision!r}{why}; use bfloat16 or float32")


def check_layout(layout: Layout, config: T5Config, world: int) -> None:
    """Refuse, with `UserError` and the nearest choice, a layout that `config` on `world` ranks cannot have."""
    for name, value in (("heads", config.heads), ("d_ff", config.d_ff), ("vocab_rows", config.vocab_rows)):
        if value % layout.tensor:
            near = _nearest_divisor(math.gcd(config.heads, config.d_ff, config.vocab_rows, world), layout.tensor)
            raise UserError(
                f"model.{name} is {value}, which the tensor-parallel degree {layout.tensor} does not divide; "
                f"the nearest degree that works is {near}"
            )
    if world % layout.tensor:
        near = _nearest_divisor(math.gcd(config.heads, config.d_ff, config.vocab_rows, world), layout.tensor)
        raise UserError(
            f"{world} ranks cannot be cut into tensor-parallel groups of {layout.tensor}; "
            f"the nearest degree that works is {near}"
        )
    sharing = world // layout.tensor
    if sharing % layout.replicas:
        raise UserError(
            f"{sharing} data-parallel ranks cannot hold {layout.replicas} copies of the model; "
            f"the nearest number of replicas that works is {_nearest_divisor(sharing, layout.replicas)}"
        )


def build_mesh(layout: Layout, device_type: str) -> DeviceMesh | None:
    """The mesh ("dp", "tp"), or ("replica", "dp", "tp") with several replicas, over all ranks.

    Neighboring ranks share a tensor-parallel group, so it stays inside a node. Without a process group, or
    with one rank that computes in float32, there is nothing to spread and the answer is None.
    """
    world = dist.get_world_size() if dist.is_initialized() else 1
    if world % (layout.tensor * layout.replicas):
        raise UserError(f"{world} ranks cannot be cut into {layout.replicas} replicas of tensor degree {layout.tensor}")
    if world == 1 and layout.precision == "float32":
        return None
    if not dist.is_initialized():
        raise UserError("layout.precision bfloat16 needs a process group, of one rank at least; start one first")
    shape = {"replica": layout.replicas, "dp": world // (layout.tensor * layout.replicas), "tp": layout.tensor}
    if layout.replicas == 1:
        del shape["replica"]
    return init_device_mesh(device_type, tuple(shape.values()), mesh_dim_names=tuple(shape))


def data_parallel(mesh: DeviceMesh | None) -> tuple[int, int]:
    """This rank's index among the ranks that read different rows, and their number."""
    if mesh is None:
        return 0, 1
    tensor = mesh["tp"].size()
    return dist.get_rank() // tensor, mesh.size() // tensor


def data_mesh(mesh: DeviceMesh) -> DeviceMesh:
    """The part of the mesh along which parameters are sharded by rows, replicas first."""
    return mesh["replica", "dp"] if "replica" in (mesh.mesh_dim_names or ()) else mesh["dp"]


def compute_dtype(layout: Layout) -> torch.dtype:
    """Dtype of activations."""
    return torch.bfloat16 if layout.precision == "bfloat16" else torch.float32


def _nearest_divisor(value: int, wanted: int) -> int:
    divisors = [d for d in range(1, value + 1) if value % d == 0]
    return min(divisors, key=lambda d: (abs(d - wanted), d))
