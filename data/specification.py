"""What decides the rows of a run, as plain data that travels to readers: the mixture's sources, lengths, lanes,
seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data.errors import UserError
from data.objectives import ObjectiveSpec, default_targets_length

Architecture = Literal["encoder_decoder", "shared", "language_model", "prefix_lm"]


@dataclass(frozen=True)
class Source:
    """One task of the mixture: documents of `corpus` under `objective`, or, with no objective, the supervised
    task of this name. `limit` = (blocks, tokens of the last block) keeps the start of a corpus alone, see
    `data.truncation`.
    """

    name: str
    rate: float = 1.0
    split: str = "train"
    corpus: str | None = None
    objective: ObjectiveSpec | None = None
    limit: tuple[int, int] | None = None


@dataclass(frozen=True)
class LanesSpec:
    """All that decides the rows. `rows` is the global batch, cut into `lanes`; lengths count EOS in.

    `targets_length` None takes what the first objective needs. `loss` says which part of a decoder-only model's
    joined sequence is learned. `vocabulary` is the URL of the folder that holds
    `vocabulary/sentencepiece.model`, by default the first corpus. `bad_records` of a split may be left out
    before the run stops. `block_bytes` is the size of a block in stored bytes. `task_files` register tasks,
    whose examples lie at `task_data`/NAME unless a task has a source of its own. Raises UserError for a mixture
    without a rate above zero and for lanes that do not divide the rows.
    """

    sources: tuple[Source, ...]
    lanes: int
    rows: int
    seed: int = 0
    inputs_length: int = 512
    targets_length: int | None = None
    architecture: Architecture = "encoder_decoder"
    loss: Literal["all", "targets"] = "all"
    pack: bool = True
    vocabulary: str | None = None
    bad_records: int = 0
    block_bytes: int = 1 << 19
    task_files: tuple[str, ...] = ()
    task_data: str | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise UserError("the mixture is empty; name at least one task")
        if self.lanes < 1 or self.rows % self.lanes or self.rows < self.lanes:
            raise UserError(f"batch.lanes={self.lanes} must divide batch.rows={self.rows}")
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise UserError(f"task names in a mixture must differ, but are {', '.join(names)}")
        if any(not source.rate >= 0 for source in self.sources):
            raise UserError("mixture rates must not be negative")
        if not sum(source.rate for source in self.sources) > 0:
            raise UserError("the rates of the mixture sum to zero; give at least one task a rate above zero")

    @property
    def decoder_only(self) -> bool:
        """Whether inputs and targets are joined to one sequence."""
        return self.architecture in ("language_model", "prefix_lm")

    @property
    def lengths(self) -> tuple[int, int]:
        """(inputs, targets): maximum lengths of the two features; causal language modelling alone has inputs of
        EOS.
        """
        objectives = [source.objective for source in self.sources]
        targets = self.targets_length
        if targets is None:
            first = next((objective for objective in objectives if objective is not None), None)
            targets = default_targets_length(first, self.inputs_length) if first else self.inputs_length
        causal = all(objective is not None and objective.name == "lm" for objective in objectives)
        return 1 if causal else self.inputs_length, targets

    @property
    def vocabulary_url(self) -> str | None:
        """Where the vocabulary lies: its own folder, or else the first corpus."""
        return self.vocabulary or next((s.corpus for s in self.sources if s.corpus is not None), None)

    def source(self, name: str) -> Source:
        """The source of that name."""
        return next(source for source in self.sources if source.name == name)
