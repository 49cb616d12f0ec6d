"""Puts a rank's parts together: mesh, model, optimizer, loss, schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from data.errors import UserError
from model.freezing import freeze, trained_names
from model.loss import LossSums
from model.transformer import T5, Batch
from orchestrator.checkpoint import Chunk
from orchestrator.config import Config
from orchestrator.config.schema import Schedule
from orchestrator.forecast.cost import Gpu
from orchestrator.forecast.memory import peak
from orchestrator.forecast.scenario import scenario_of
from orchestrator.optimizers import schedule as schedules
from orchestrator.optimizers.adafactor import Adafactor
from orchestrator.optimizers.adamw import AdamW
from orchestrator.optimizers.base import ShardedOptimizer
from orchestrator.optimizers.in_backward import UpdateInBackward
from orchestrator.parallel.layout import Layout, build_mesh, data_parallel
from orchestrator.parallel.loss import loss_sums
from orchestrator.parallel.parallelize import build_model, state_tensors
from orchestrator.parallel.shards import is_owner, local_chunk
from orchestrator.run import Run, layout_of


@dataclass(frozen=True)
class Assembled:
    """What one rank trains with."""

    model: T5
    optimizer: ShardedOptimizer
    mesh: DeviceMesh | None
    device: torch.device
    loss: Callable[[Batch], LossSums]
    schedule: Callable[[int], float]
    data_rank: int
    data_world: int
    tensor_rank: int
    input_positions: int
    """Length of an encoder row."""
    target_positions: int
    """Length of a decoder row."""

    @property
    def world(self) -> int:
        """All ranks."""
        return self.data_world * (1 if self.mesh is None else self.mesh["tp"].size())

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Those that train."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def chunks(self) -> dict[str, Chunk]:
        """This rank's part of all that a checkpoint holds; the tensors share memory with the model's."""
        return {
            name: Chunk(*local_chunk(tensor), is_owner(tensor))
            for name, tensor in state_tensors(self.model, self.optimizer).items()
        }


def assemble(run: Run) -> Assembled:
    """Build this rank's parts; raises `UserError` for a layout that the model cannot have."""
    config = run.config
    cuda = torch.cuda.is_available() and "nccl" in dist.get_backend()
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    if not cuda:
        torch.set_num_threads(config.parallel.cpus)
    layout = layout_of(config, device.type)
    if cuda:
        require_room(run, layout, torch.cuda.get_device_properties(device).total_memory)
    mesh = build_mesh(layout, device.type)
    names = trained_names(run.model, config.train.parameters, 0, config.steps, config.train.episodes)
    # Gradual unfreezing keeps gradients everywhere and leaves out updates, so that the sharding need not change.
    frozen = partial(freeze, trained=names) if config.train.parameters.startswith("adapters") else None
    model = build_model(run.model, layout, mesh, seed=config.seed, device=device, freeze=frozen)
    optimizer = make_optimizer(config, model)
    if config.optimizer.in_backward:
        UpdateInBackward(model, optimizer, accumulation=config.batch.accumulate)
    data_rank, data_world = data_parallel(mesh)
    lengths = run.lanes.lengths
    return Assembled(
        model,
        optimizer,
        mesh,
        device,
        partial(loss_sums, model, z_loss=config.loss.z_loss),
        schedule_of(config.schedule, config.steps),
        data_rank,
        data_world,
        0 if mesh is None else mesh["tp"].get_local_rank(),
        lengths[0],
        sum(lengths) if run.lanes.decoder_only else lengths[1],
    )


def require_room(run: Run, layout: Layout, memory: int) -> None:
    """Refuse, before anything is allocated, a layout whose forecast peak is above what `memory` bytes can hold."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    needed, usable = peak(scenario_of(run.config, run.model, layout, world)).total, Gpu("device", memory, None).usable
    if needed > usable:
        raise UserError(
            f"model {run.config.model} on {world} workers needs {needed / 1e9:.1f} GB a GPU, of which "
            f"{usable / 1e9:.1f} can be used; `python -m orchestrator.plan` with this configuration names the nearest "
            "layout that fits"
        )


def make_optimizer(config: Config, model: T5) -> ShardedOptimizer:
    """The optimizer of `config` over all parameters of `model`; its rate is set before each step."""
    kinds: dict[str, Callable[..., ShardedOptimizer]] = {"adafactor": Adafactor, "adamw": AdamW}
    return kinds[config.optimizer.name](list(model.parameters()), lr=0.0)


def schedule_of(schedule: Schedule, steps: int) -> Callable[[int], float]:
    """The learning rate as a function of the step (from 1)."""
    rate, warmup = schedule.rate, schedule.warmup
    shapes: dict[str, Callable[[int], float]] = {
        "inverse_square_root": lambda step: rate * schedules.inverse_square_root(step, warmup=warmup),
        "constant": lambda step: schedules.constant(step, rate=rate),
        "linear": lambda step: schedules.triangular(step, peak=rate, warmup=0, steps=steps),
        "triangular": lambda step: schedules.triangular(step, peak=rate, warmup=warmup, steps=steps),
        "cosine": lambda step: schedules.cosine(step, peak=rate, warmup=warmup, steps=steps),
    }
    return shapes[schedule.name]
