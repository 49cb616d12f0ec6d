"""Turns a model written for one device into this rank's part of it: the order of the transformations is here.

A model is built on the meta device, cut, and only then given memory: each rank draws its own part of every
parameter from the parameter's own stream, so all layouts start from the same numbers.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

from model.config import T5Config
from model.initialize import initial_slice
from model.transformer import T5, Block
from orchestrator.parallel.layout import Layout, check_layout, compute_dtype, data_mesh
from orchestrator.parallel.shards import local_chunk
from orchestrator.parallel.tensor_parallel import apply_tensor_parallel


def build_model(
    config: T5Config,
    layout: Layout,
    mesh: DeviceMesh | None,
    *,
    seed: int,
    device: torch.device | str,
    freeze: Callable[[T5], None] | None = None,
) -> T5:
    """This rank's part of a new model on `device`; `freeze` chooses what trains before anything is sharded.

    Raises `UserError` for a layout that the model cannot have, before it allocates.
    """
    check_layout(layout, config, 1 if mesh is None else mesh.size())
    with torch.device("meta"):
        model = T5(config)
    if freeze is not None:
        freeze(model)
    parallelize(model, mesh, layout)
    materialize(model, seed, device)
    return model


def parallelize(model: T5, mesh: DeviceMesh | None, layout: Layout) -> None:
    """Apply `layout` to a model on the meta device, in place; without a mesh nothing is split."""
    if mesh is not None and mesh["tp"].size() > 1:
        apply_tensor_parallel(model, mesh["tp"])
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    for block in blocks:
        if layout.recompute != "none":
            module = block if layout.recompute == "block" else block.feed_forward
            # Dropout is a function of its keys, so there is no generator state to keep.
            module.forward = partial(  # type: ignore[method-assign]
                checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False
            )
        if layout.compile:
            # FairScale's regions call collectives that cannot be traced, so with them a graph may break.
            block.forward = torch.compile(block.forward, fullgraph=layout.tensor == 1)  # type: ignore[method-assign]
    if mesh is not None:
        _shard([*blocks, model], mesh, layout)


def materialize(model: T5, seed: int, device: torch.device | str) -> None:
    """Give memory on `device` to the local part of every parameter and draw its initial values."""
    model.to_empty(device=device)
    for name, parameter in model.named_parameters():
        shape, offsets, part = local_chunk(parameter.detach())
        ranges = [(start, start + size) for start, size in zip(offsets, part.shape, strict=True)]
        part.copy_(initial_slice(name, shape, ranges, model.config, seed))


def reshard(model: nn.Module) -> None:
    """Put gathered parameters back into their shards, as after an evaluation without backward."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def state_tensors(model: T5, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Tensor]:
    """Everything a checkpoint holds of model and optimizer, sharded as it is, by checkpoint name.

    Names are `param/<name>` and `optimizer/<name>/<slot>`. The tensors share memory with the model's and the
    optimizer's: writing into them restores.
    """
    reshard(model)
    named = dict(model.named_parameters())
    tensors: dict[str, Tensor] = {f"param/{name}": parameter.detach() for name, parameter in named.items()}
    if optimizer is not None:
        for name, parameter in named.items():
            for slot, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{name}/{slot}"] = value
    return tensors


def _shard(modules: list[nn.Module], mesh: DeviceMesh, layout: Layout) -> None:
    """fully_shard each module, the root last; gradients are summed, not averaged, over the ranks."""
    dtype = compute_dtype(layout)
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for module in modules:
        # The root holds the output matrix, which the loss needs right after the forward pass.
        root = module is modules[-1]
        fully_shard(module, mesh=data_mesh(mesh), mp_policy=policy, reshard_after_forward=not root)
        assert isinstance(module, FSDPModule)
        # The loss is divided by a number of the global batch, so ranks with unequal rows add up right.
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)
