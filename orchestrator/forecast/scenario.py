"""One training step as plain numbers: model, layout, rows and lengths that a forecast is made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data import tasks
from data.errors import UserError
from data.mixing import UNSUPERVISED
from data.objectives import ObjectiveSpec
from data.specification import LanesSpec, Source
from model.config import T5Config
from model.freezing import trained_names
from orchestrator.config import Config
from orchestrator.parallel.layout import Layout, check_layout
from orchestrator.sources import mixture_of

Device = Literal["cuda", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Everything the memory, the traffic and the time of a step depend on."""

    model: T5Config
    layout: Layout
    world: int
    """Train workers, one a device."""
    rows: int
    """Sequences of the global batch."""
    lanes: int
    accumulate: int
    input_length: int
    """Positions of an encoder row."""
    target_length: int
    """Positions of a decoder row; for decoder-only models of the joined sequence."""
    optimizer: Literal["adafactor", "adamw"] = "adafactor"
    in_backward: bool = False
    segments: bool = False
    """Whether rows hold several examples or padding, so that every row has masks of its own."""
    trained: frozenset[str] | None = None
    """Names of the parameters that have gradients; None stands for all."""
    device: Device = "cuda"

    @property
    def data_parallel(self) -> int:
        """Ranks that read different rows."""
        return self.world // self.layout.tensor

    @property
    def shards(self) -> int:
        """Ranks that share the parameters of one tensor-parallel rank."""
        return self.data_parallel // self.layout.replicas

    @property
    def sharded(self) -> bool:
        """Whether parameters are gathered for use; one rank that computes in float32 uses them as they are."""
        return self.world > 1 or self.layout.precision == "bfloat16"

    @property
    def micro_rows(self) -> int:
        """Rows of the largest micro-batch of a rank; lanes are dealt whole."""
        lanes = -(-self.lanes // self.data_parallel)
        return -(-lanes * (self.rows // self.lanes) // self.accumulate)

    @property
    def item(self) -> int:
        """Bytes of an activation's element."""
        return 2 if self.layout.precision == "bfloat16" else 4

    def trains(self, name: str) -> bool:
        """Whether the parameter of this name has a gradient."""
        return self.trained is None or name in self.trained

    def check(self) -> None:
        """Refuse, with `UserError` and the nearest choice, what training would refuse too."""
        check_layout(self.layout, self.model, self.world)
        if self.in_backward and self.accumulate > 1:
            raise UserError(
                f"optimizer.in_backward frees gradients as they come, but batch.accumulate is {self.accumulate}; "
                "set batch.accumulate=1 or optimizer.in_backward=false"
            )
        if self.in_backward and self.model.architecture == "shared":
            raise UserError(
                "optimizer.in_backward needs blocks that a step uses once, but the shared architecture uses each "
                "twice; set optimizer.in_backward=false"
            )
        if self.data_parallel > self.lanes:
            raise UserError(
                f"{self.data_parallel} data-parallel ranks are more than batch.lanes={self.lanes}; "
                f"take at most {self.lanes * self.layout.tensor} workers or more lanes"
            )


def scenario_of(config: Config, model: T5Config, layout: Layout, world: int, device: Device = "cuda") -> Scenario:
    """The scenario of `config` on `world` devices. Reads task definitions, but neither corpus nor task data."""
    inputs, targets = lengths_of(config)
    frozen = config.train.parameters.startswith("adapters")
    return Scenario(
        model=model,
        layout=layout,
        world=world,
        rows=config.batch.rows,
        lanes=config.batch.lanes,
        accumulate=config.batch.accumulate,
        input_length=0 if model.decoder_only else inputs,
        target_length=inputs + targets if model.decoder_only else targets,
        optimizer=config.optimizer.name,
        in_backward=config.optimizer.in_backward,
        segments=config.mixture is not None,
        trained=trained_names(model, config.train.parameters) if frozen else None,
        device=device,
    )


def lengths_of(config: Config) -> tuple[int, int]:
    """(inputs, targets) in tokens, by the rule that the lanes of a run follow."""
    for path in config.tasks:
        tasks.load(path)
    objective = ObjectiveSpec(
        config.objective.name, config.objective.density, config.objective.mean_span, config.objective.raw_length
    )
    mixture = mixture_of(config)
    names = (UNSUPERVISED,) if mixture is None else tuple(mixture.tasks())
    sources = tuple(Source(name, objective=objective if name == UNSUPERVISED else None) for name in names)
    spec = LanesSpec(
        sources, config.batch.lanes, config.batch.rows, config.seed, config.objective.input_length,
        config.objective.target_length, config.options.architecture,
    )  # fmt: skip
    return spec.lengths
