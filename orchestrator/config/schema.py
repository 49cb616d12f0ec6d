"""The one typed configuration of a run: every key, its type, its default and what it means."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from data.tasks.places import within


class Section(BaseModel):
    """Base of all sections: unknown keys refused, values immutable, docstrings become descriptions."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _text(value: object) -> object:
    """YAML reads `workers: 2` and `version: 1.1` as numbers."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _no_fp16(value: object) -> object:
    if value in ("fp16", "float16", "half"):
        raise ValueError("T5's feed-forwards overflow in fp16; use bf16 or fp32")
    return value


Workers = Annotated[str, BeforeValidator(_text), Field(pattern=r"^[1-9]\d*(\.\.[1-9]\d*)?$")]
Architecture = Literal["encoder_decoder", "shared", "language_model", "prefix_lm"]


class ModelOptions(Section):
    """What the size's name does not say about the model."""

    architecture: Architecture = "encoder_decoder"
    """Table 2's architectures."""
    version: Annotated[Literal["1.0", "1.1"], BeforeValidator(_text)] = "1.0"
    """1.0: ReLU, tied output (the paper); 1.1: gated GELU, untied output."""
    layers: PositiveInt | None = None
    """Blocks a stack, when not the size's own ("6 layers" of Table 2)."""
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    adapter: PositiveInt | None = None
    """Inner width of the adapters of Table 10; none by default."""


class Objective(Section):
    """The unsupervised objective (Tables 3 to 7)."""

    name: Literal[
        "span_corruption", "iid_replace", "iid_drop", "bert_style", "mass_style", "deshuffling", "prefix_lm", "lm"
    ] = "span_corruption"
    density: float = Field(0.15, gt=0.0, le=1.0)
    """Share of tokens that are corrupted."""
    mean_span: float = Field(3.0, ge=1.0)
    """Mean length of a corrupted span, in tokens (span_corruption alone)."""
    input_length: PositiveInt = 512
    """Tokens of an encoder row, EOS included."""
    target_length: PositiveInt | None = None
    """Tokens of a decoder row, EOS included; by default what the objective needs."""
    raw_length: PositiveInt | None = None
    """Tokens of a segment before corruption; by default what fills the inputs (511 for i.i.d. noise at 512)."""
    first_tokens: PositiveInt | None = None
    """Keep only the first N tokens of the corpus and repeat them with fresh noise (Table 9)."""
    lm_loss: Literal["all", "targets"] = "all"
    """Decoder-only models: loss on inputs and targets (released configuration) or on targets alone."""


class BatchOptions(Section):
    """The global batch; nothing in it depends on the number of workers."""

    rows: PositiveInt = 128
    """Sequences of the global batch."""
    lanes: PositiveInt = 32
    """Independent streams the batch is cut into; must divide rows; at least the data-parallel degree."""
    accumulate: PositiveInt = 1
    """Micro-batches of a step on each worker."""
    pack: bool = True
    """Put several short examples into one row."""


class OptimizerOptions(Section):
    """How parameters are updated."""

    name: Literal["adafactor", "adamw"] = "adafactor"
    in_backward: bool = False
    """Update each block during the backward pass and free its gradient (accumulate=1 only)."""
    restore: bool = True
    """Fine-tuning: take the optimizer's state and step counter from the initial checkpoint where it has them."""


class Schedule(Section):
    """The learning rate as a function of the step; with Adafactor it is relative to a parameter's RMS."""

    name: Literal["inverse_square_root", "constant", "linear", "triangular", "cosine"] = "inverse_square_root"
    rate: float = Field(1.0, gt=0.0)
    """Factor: inverse_square_root gives rate / sqrt(max(step, warmup)); constant gives rate itself."""
    warmup: PositiveInt = 10_000


class LossOptions(Section):
    """What is minimized."""

    z_loss: float = Field(1e-4, ge=0.0)
    normalize: Literal["positions", "tokens"] = "positions"
    """Divide by rows x target length (as the original) or by the batch's real target tokens."""


class TrainOptions(Section):
    """Which parameters are trained (Section 3.5.1)."""

    parameters: Literal["all", "adapters", "adapters_and_norms", "gradual_unfreezing"] = "all"
    """adapters_and_norms is the paper's text, adapters the released configuration."""
    episodes: PositiveInt = 12
    """Gradual unfreezing: number of equal episodes."""


class Parallel(Section):
    """How the model is laid over devices; changes no number but rounding."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """What workers compute on. auto: GPUs where the cluster has any at the start; say gpu where nodes come later."""
    tensor: PositiveInt = 1
    """Tensor-parallel degree; workers come in whole groups of this size."""
    replicas: PositiveInt = 1
    """Hybrid sharding: copies of the sharded model, one for each group of nodes."""
    precision: Annotated[Literal["auto", "fp32", "bf16"], BeforeValidator(_no_fp16)] = "auto"
    """Compute type; master weights are always fp32. auto: bf16 on GPUs, fp32 on CPUs."""
    recompute: Literal["none", "feed_forward", "block"] = "none"
    """What the backward pass computes again: nothing, feed-forwards, or whole blocks."""
    compile: bool = False
    """Compile each block."""
    cpus: PositiveInt = 1
    """CPUs (and threads) of a train worker; on CPU another number is the same run to rounding only."""


class Readers(Section):
    """Reader actors: they turn records into rows."""

    count: PositiveInt | None = None
    """Actors; by default one for every four data-parallel workers, at least one."""
    cpus: float = Field(1.0, gt=0.0)
    ahead_steps: PositiveInt = 8
    """Steps asked for in one request; one request is always on its way."""
    cache_gigabytes: float | None = Field(None, gt=0.0)
    """Local disk a node gives to ranges of an S3 corpus, oldest out first; by default nothing is kept."""
    bad_records: NonNegativeInt = 0
    """Bad records that are skipped and counted before the run stops."""


class Checkpoints(Section):
    """When the run's state is saved and what is kept."""

    every: PositiveInt = 5000
    """Steps between permanent checkpoints."""
    keep: PositiveInt | None = None
    """Newest permanent checkpoints that are kept (at least two); all by default."""
    ephemeral_seconds: PositiveInt | None = 300
    """Time between cheap checkpoints that the next one replaces; none begins while one is on its way."""


class Evaluation(Section):
    """Held-out loss during training and how tasks are decoded."""

    every: PositiveInt | None = None
    """Steps between evaluations; by default at checkpoints."""
    rows: PositiveInt = 512
    """Held-out rows at most."""
    beam: PositiveInt = 1
    length_penalty: float = 0.6
    decode_length: PositiveInt = 128
    actors: PositiveInt | None = None
    """Evaluator actors, each with a whole model; by default as many as train workers."""


class Logging(Section):
    """What is written while the run goes."""

    every: PositiveInt = 100
    """Steps between lines of metrics."""
    format: Literal["auto", "text", "json"] = "auto"
    """auto: a live line on a terminal, plain lines elsewhere; json: one object a line."""


class Faults(Section):
    """What the run does when something breaks."""

    max_failures: NonNegativeInt = 20
    """Failures in a row without a new checkpoint between them that are survived; progress renews them."""
    same_step: PositiveInt = 3
    """Such failures at one step before the run stops and explains itself."""
    timeout_seconds: PositiveInt = 600
    """Limit of every collective and every wait."""
    nonfinite_skips: NonNegativeInt = 3
    """Steps in a row with a non-finite loss or gradient that are skipped before rolling back."""
    nonfinite_rollbacks: NonNegativeInt = 2
    """Rollbacks that step over the data window before the run stops."""
    compare_every: PositiveInt | None = None
    """Steps between comparisons of replicas for silent corruption."""
    grow_seconds: PositiveInt | None = 900
    """An elastic run takes new nodes in at the first checkpoint after its workers trained this long; null: never while
    they work."""


class Config(Section):
    """One run. Keys of frequent use are short; `python -m orchestrator.pretrain --print-config` shows all."""

    run: str = Field("pretrain", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")
    """Name of the run; the same name goes on where it stopped."""
    storage: str = "runs"
    """Folder or s3:// URL that holds the runs."""
    seed: NonNegativeInt = 0
    steps: PositiveInt = 524_288
    workers: Workers = "1"
    """Train workers: a number, or a range "2..8" for elastic runs."""
    model: str = "base"
    """Size: tiny, small, base, large, 3B, 11B, or 2x and 4x of Table 13."""
    corpus: str | None = None
    """Prepared corpus (folder or s3:// URL) that also holds the vocabulary; "embedded" prepares the standard
    library's documentation. By default that of the run in `initial`, else the embedded one."""
    mixture: str | None = None
    """Task, mixture, or a mixing preset (then all tasks of the study); by default the unsupervised objective alone."""
    mixing: str = "proportional_19"
    """How examples become rates where the mixture gives none: equal, proportional_16 to _21, temperature_2, _4, _8."""
    leave_out: str | None = None
    """Task or target (a whole benchmark) that is left out of the mixture."""
    tasks: tuple[str, ...] = ()
    """Files that register tasks: Python modules or YAML."""
    task_data: str | None = None
    """Folder or s3:// URL with the imported tasks' examples."""
    initial: str | None = None
    """Run, checkpoint or converted Hugging Face folder whose weights the run starts from."""

    options: ModelOptions = ModelOptions()
    objective: Objective = Objective()
    batch: BatchOptions = BatchOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    schedule: Schedule = Schedule()
    loss: LossOptions = LossOptions()
    train: TrainOptions = TrainOptions()
    parallel: Parallel = Parallel()
    readers: Readers = Readers()
    checkpoint: Checkpoints = Checkpoints()
    evaluate: Evaluation = Evaluation()
    log: Logging = Logging()
    faults: Faults = Faults()

    @property
    def worker_range(self) -> tuple[int, int]:
        """Fewest and most train workers."""
        low, _, high = self.workers.partition("..")
        return int(low), int(high or low)

    @property
    def run_url(self) -> str:
        """Where this run lies."""
        return within(self.storage, self.run)

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        problems = []
        low, high = self.worker_range
        if low > high:
            problems.append(f"workers={self.workers}: the range is empty; write {high}..{low}")
        if self.batch.rows % self.batch.lanes:
            nearest = max(n for n in range(1, self.batch.lanes + 1) if self.batch.rows % n == 0)
            problems.append(
                f"batch.lanes={self.batch.lanes} does not divide batch.rows={self.batch.rows}; "
                f"take batch.lanes={nearest}"
            )
        for count in {low, high}:
            group = self.parallel.tensor * self.parallel.replicas
            if count % group:
                problems.append(
                    f"workers={self.workers} is not a multiple of parallel.tensor={self.parallel.tensor} x "
                    f"parallel.replicas={self.parallel.replicas}; take {max(1, count // group) * group}"
                )
        if high // self.parallel.tensor > self.batch.lanes:
            problems.append(
                f"batch.lanes={self.batch.lanes} is fewer than the {high // self.parallel.tensor} data-parallel "
                "workers; raise batch.lanes or lower workers"
            )
        if self.train.parameters.startswith("adapters") and self.options.adapter is None:
            problems.append(f"train.parameters={self.train.parameters} needs options.adapter, for example 32")
        if self.optimizer.in_backward and self.batch.accumulate > 1:
            problems.append("optimizer.in_backward=true needs batch.accumulate=1: gradients are freed as they come")
        if self.train.parameters == "gradual_unfreezing":
            if self.optimizer.in_backward:
                problems.append("optimizer.in_backward=true updates every block; gradual_unfreezing needs it false")
            if self.steps < self.train.episodes:
                problems.append(
                    f"steps={self.steps} cannot be cut into train.episodes={self.train.episodes}; lower train.episodes"
                )
        if re.search(r"://[^/]*@", self.storage + " " + (self.corpus or "") + " " + (self.task_data or "")):
            problems.append("a URL with user information is refused; credentials come from the environment")
        if problems:
            raise ValueError("; ".join(dict.fromkeys(problems)))
        return self
