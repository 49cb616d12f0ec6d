"""The whole forecast of a configuration on a cluster, as one JSON object."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from data.errors import UserError
from data.storage import Missing, open_storage
from data.vocabulary import Vocabulary
from orchestrator.config import Config
from orchestrator.forecast.cost import Gpu, cost
from orchestrator.forecast.failures import failures
from orchestrator.forecast.memory import moments
from orchestrator.forecast.nearest import nearest
from orchestrator.forecast.scenario import scenario_of
from orchestrator.forecast.sizes import checkpoint_bytes
from orchestrator.forecast.traffic import traffic
from orchestrator.run import layout_of, model_config

ROWS = 32_128
"""Of the embedding where no corpus says otherwise: the study's vocabulary."""


@dataclass(frozen=True)
class Cluster:
    """The devices a run may use, each worth `price` an hour and used at `mfu` of its peak rate."""

    gpu: Gpu
    devices: int | None = None
    """None: as many as are needed."""
    node: int = 8
    """Devices of a node."""
    mfu: float = 0.4
    price: float | None = None


def answer(config: Config, cluster: Cluster) -> dict[str, Any]:
    """The forecast of `config`, with the fewest workers it allows, on `cluster`; sizes are bytes, times hours.

    Raises `UserError`, with numbers and the nearest choice, for a layout that the model cannot have.
    """
    world = config.worker_range[0]
    if cluster.devices is not None and world > cluster.devices:
        raise UserError(
            f"workers={config.workers} are more than the cluster's {cluster.devices} GPUs; "
            f"take workers={cluster.devices} or more nodes"
        )
    model = model_config(config, vocabulary_rows(config))
    scenario = scenario_of(config, model, layout_of(config, "cuda"), world)
    scenario.check()
    all_moments = moments(scenario)
    at = max(all_moments, key=lambda moment: moment.total)
    usable = cluster.gpu.usable
    found = None if at.total <= usable else nearest(scenario, usable, cluster.devices, cluster.node)
    paid = cost(scenario, config.steps, cluster.gpu, cluster.mfu, cluster.price)
    saved = checkpoint_bytes(scenario)
    lost = None
    if paid.hours is not None and paid.step_seconds is not None:
        lost = failures(
            paid.hours, world, paid.step_seconds, config.checkpoint.every, config.checkpoint.ephemeral_seconds,
            saved / world,
        )  # fmt: skip
    return {
        "model": config.model,
        "workers": world,
        "gpu": cluster.gpu.name,
        "gpu_bytes": cluster.gpu.memory,
        "usable_bytes": usable,
        "rows_per_micro_batch": scenario.micro_rows,
        "input_length": scenario.input_length,
        "target_length": scenario.target_length,
        "parameters": model.parameters(),
        "memory_per_gpu_bytes": at.parts() | {"total": at.total},
        "largest_part_bytes": {part: max(moment.parts()[part] for moment in all_moments) for part in at.parts()},
        "peak_moment": at.name,
        "fits": at.total <= usable,
        "nearest": None if found is None else found.overrides(scenario) | {"total_bytes": found.peak.total},
        "communication_bytes_per_step": traffic(scenario),
        "flops_per_step": paid.flops_per_step,
        "mfu": cluster.mfu,
        "tokens": paid.tokens,
        "steps": config.steps,
        "step_seconds": paid.step_seconds,
        "hours": paid.hours,
        "cost": paid.price,
        "checkpoint_bytes": saved,
        "lost_hours": None if lost is None else lost.lost_hours,
        "failures": None if lost is None else asdict(lost),
    }


def vocabulary_rows(config: Config) -> int:
    """Rows of the embedding: those of the corpus's vocabulary where it is there, else the study's."""
    if config.corpus in (None, "embedded"):
        return ROWS
    try:
        return Vocabulary.load(open_storage(str(config.corpus))).rows
    except Missing:
        return ROWS
