"""Small models and batches that exercise every path of a layout, and a run of them that any layout can do."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from model.config import T5Config
from model.transformer import Batch
from orchestrator.optimizers.adafactor import Adafactor
from orchestrator.parallel.layout import Layout, build_mesh, data_parallel
from orchestrator.parallel.loss import loss_sums
from orchestrator.parallel.parallelize import build_model, state_tensors
from orchestrator.parallel.shards import is_owner, local_chunk

ROWS, INPUTS, TARGETS, SEED = 5, 12, 9, 3
SMALL = T5Config(d_model=16, d_ff=32, d_kv=4, heads=4, encoder_layers=1, decoder_layers=2, vocab_rows=64, dropout=0.2)


@dataclass(frozen=True)
class Case:
    """A model, the kind of its batches, and whether dropout is on."""

    config: T5Config
    packed: bool
    dropout: bool


def _cases() -> dict[str, Case]:
    models = {
        "encoder_decoder": SMALL,
        "shared": replace(SMALL, architecture="shared", encoder_layers=2),
        "language_model": replace(SMALL, architecture="language_model", encoder_layers=0, decoder_layers=1),
        "prefix_lm": replace(SMALL, architecture="prefix_lm", encoder_layers=0, decoder_layers=1),
        "v1.1": replace(SMALL, feed_forward="gated-gelu", tied=False, adapter=6),
    }
    cases = {}
    for name, config in models.items():
        cases[f"{name}-dense"] = Case(config, packed=False, dropout=True)
        cases[f"{name}-packed"] = Case(config, packed=True, dropout=name in ("shared", "prefix_lm"))
    return cases


CASES = _cases()
"""Every architecture, dense and packed; dropout on and off. The sizes leave rows over on 2 and on 4 ranks."""


def batch(case: Case, step: int) -> Batch:
    """The global batch of a step; rows differ in what is padding and in where segments end."""
    generator = np.random.default_rng(step)
    inputs = generator.integers(2, case.config.vocab_rows, (ROWS, INPUTS))
    targets = generator.integers(2, case.config.vocab_rows, (ROWS, TARGETS))
    values: dict[str, Any] = {}
    if case.packed:
        values["input_segments"] = _segments(generator, inputs)
        values["target_segments"] = _segments(generator, targets)
    if case.config.decoder_only:
        values.pop("input_segments", None)
        values["inputs"] = None
    else:
        values["inputs"] = inputs
    if case.config.architecture == "prefix_lm":
        values["prefix"] = np.arange(TARGETS) < generator.integers(1, TARGETS, (ROWS, 1))
    if case.dropout:
        values["row_keys"] = generator.integers(0, 2**62, ROWS)
    tensors = {k: None if v is None else torch.from_numpy(np.asarray(v)) for k, v in values.items()}
    return Batch(targets=torch.from_numpy(targets), **tensors)


def _segments(generator: np.random.Generator, ids: np.ndarray) -> np.ndarray:
    """Two examples and padding a row; clears the padded ids."""
    rows, length = ids.shape
    first = generator.integers(2, length // 2, (rows, 1))
    end = generator.integers(length // 2 + 1, length + 1, (rows, 1))
    position = np.arange(length)
    segments = np.where(position < first, 1, 2) * (position < end)
    ids *= segments > 0
    return segments


def rows_of(whole: Batch, rank: int, world: int) -> Batch:
    """The rows of data-parallel rank `rank`: each `world`-th."""
    values = {k: None if v is None else v[rank::world] for k, v in vars(whole).items()}
    return Batch(**values)


@dataclass
class Part:
    """One rank's part of a tensor."""

    shape: tuple[int, ...]
    offsets: tuple[int, ...]
    values: np.ndarray
    owner: bool


def part(tensor: Tensor) -> Part:
    """The part that this rank holds."""
    shape, offsets, values = local_chunk(tensor)
    return Part(tuple(shape), offsets, values.detach().clone().numpy(), is_owner(tensor))


def assemble(parts: list[Part]) -> np.ndarray:
    """The whole tensor from the owners' parts; every element must have exactly one owner and all copies agree."""
    whole = np.zeros(parts[0].shape, parts[0].values.dtype)
    count = np.zeros(parts[0].shape, int)

    def box(p: Part) -> tuple[slice, ...]:
        return tuple(slice(start, start + size) for start, size in zip(p.offsets, p.values.shape, strict=True))

    for p in parts:
        if p.owner:
            whole[box(p)] = p.values
            count[box(p)] += 1
    assert (count == 1).all(), f"elements with {count.min()} to {count.max()} owners"
    for p in parts:
        np.testing.assert_allclose(p.values, whole[box(p)], rtol=1e-6)
    return whole


def over_data(value: Tensor, mesh: DeviceMesh | None) -> Tensor:
    """The sum of `value` over the data-parallel ranks."""
    if mesh is not None:
        dist.all_reduce(value)
        value = value / mesh["tp"].size()
    return value


@dataclass
class Outcome:
    """What a run of a case gives: losses by step, and this rank's parts of everything by name."""

    losses: list[float]
    start: dict[str, Part]
    gradients: dict[str, Part]
    first: dict[str, Part]
    last: dict[str, Part]


class Trainer:
    """`case` on the layout over the current process group, with Adafactor."""

    def __init__(self, case: Case, layout: Layout) -> None:
        self.case = case
        self.mesh = build_mesh(layout, "cpu")
        self.model = build_model(case.config, layout, self.mesh, seed=SEED, device="cpu")
        # A threshold below the widths here, so that small matrices are factored.
        self.optimizer = Adafactor(self.model.parameters(), lr=0.01, factor_from=8)

    def backward(self, step: int) -> float:
        """Gradients of a step; returns the loss of the global batch. Packed batches are divided by their tokens."""
        whole = batch(self.case, step)
        sums = loss_sums(self.model, rows_of(whole, *data_parallel(self.mesh)), chunk=4)
        (sums.loss / (whole.counted().sum() if self.case.packed else ROWS * TARGETS)).backward()
        return float(over_data(sums.loss.detach(), self.mesh))

    def update(self) -> None:
        """Apply the gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def parts(self) -> dict[str, Part]:
        """This rank's part of all that a checkpoint would hold."""
        return {name: part(tensor) for name, tensor in state_tensors(self.model, self.optimizer).items()}


def run(case: Case, layout: Layout, steps: int) -> Outcome:
    """Train `case` for `steps` steps."""
    trainer = Trainer(case, layout)
    outcome = Outcome([], trainer.parts(), {}, {}, {})
    for step in range(1, steps + 1):
        outcome.losses.append(trainer.backward(step))
        if step == 1:
            named = trainer.model.named_parameters()
            outcome.gradients = {name: part(p.grad) for name, p in named if p.grad is not None}
        trainer.update()
        if step == 1:
            outcome.first = trainer.parts()
    outcome.last = trainer.parts()
    return outcome
