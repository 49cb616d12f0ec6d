"""Lanes: the endless, deterministic sequences of rows that a global batch is made of (laws 1 and 2 of the
design).

A lane is a pure function of the specification and its number. Its cursor is small plain data: how many examples
were drawn from the mixture, and for each task the block number, the example inside its group, and the tokens of
the block that were used before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from data.blocks import Plan, records_per_block
from data.corpus import Corpus
from data.documents import Documents
from data.errors import UserError
from data.objectives import Objective, ObjectiveSpec, create, default_targets_length
from data.packing import Packer, Rows, dense_rows
from data.random import generator
from data.storage import open_storage
from data.streams import DocumentStream, Group, JoinedStream, Stream, SupervisedTask, TaskStream
from data.vocabulary import Vocabulary

Architecture = Literal["encoder_decoder", "shared", "language_model", "prefix_lm"]
DRAWS_AT_ONCE = 1024


class Cursor(TypedDict):
    """Where a lane stands; JSON-able. `tasks` maps a name to [block number n, example index, carried tokens]."""

    draws: int
    tasks: dict[str, list[int]]


@dataclass(frozen=True)
class Source:
    """One task of the mixture: documents of `corpus` under `objective`, or, with no objective, the supervised
    task of this name. `limit` = (blocks, tokens of the last block) keeps a truncated corpus (see
    `data.truncation`).
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

    `vocabulary` is the URL of the folder that holds `vocabulary/sentencepiece.model`, by default the first
    corpus. `targets_length` None takes what the first objective needs. `block_bytes` is the size of a block in
    stored bytes.
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
    block_bytes: int = 1 << 17

    def __post_init__(self) -> None:
        if not self.sources:
            raise UserError("the mixture is empty; name at least one task")
        if self.lanes < 1 or self.rows % self.lanes:
            raise UserError(f"batch.lanes={self.lanes} must divide batch.rows={self.rows}")
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise UserError(f"task names in a mixture must differ, but are {', '.join(names)}")
        if any(source.rate < 0 for source in self.sources) or not sum(source.rate for source in self.sources) > 0:
            raise UserError("mixture rates must not be negative, and their sum must be above zero")

    @property
    def decoder_only(self) -> bool:
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


def open_corpus(url: str) -> Any:
    """The corpus at `url`; its shards are looked at when first read."""
    return Corpus.open(url, check=False)


class Lanes:
    """Serves the rows of any lane at any cursor; holds caches, no state.

    `tasks` maps the names of supervised sources to their tasks; `open_corpus` may be replaced to share caches.
    """

    def __init__(
        self,
        spec: LanesSpec,
        tasks: Mapping[str, SupervisedTask] | None = None,
        open_corpus: Callable[[str], Any] = open_corpus,
    ) -> None:
        self.spec = spec
        self._tasks = tasks or {}
        self._corpora = {s.corpus: open_corpus(s.corpus) for s in spec.sources if s.corpus is not None}
        self.vocabulary = self._load_vocabulary(open_corpus)
        self._streams = {source.name: self._stream(source) for source in spec.sources}
        self._cumulative = np.cumsum([source.rate for source in spec.sources]) / sum(s.rate for s in spec.sources)
        self._groups: dict[tuple[int, str], Group] = {}
        self._draws: dict[int, tuple[int, NDArray[np.int64]]] = {}
        self._dense = self._is_dense()

    def start(self, lane: int) -> Cursor:
        """The cursor of a lane that gave nothing yet."""
        return {"draws": 0, "tasks": {source.name: [lane, 0, 0] for source in self.spec.sources}}

    def step(self, lane: int, cursor: Cursor, step: int) -> tuple[Rows, Cursor]:
        """The lane's rows of one step and the cursor behind them. `step` is named in errors alone."""
        if not 0 <= lane < self.spec.lanes:
            raise ValueError(f"lane {lane} is outside the {self.spec.lanes} lanes of the batch")
        after: Cursor = {"draws": cursor["draws"], "tasks": {k: list(v) for k, v in cursor["tasks"].items()}}
        for source in self.spec.sources:
            after["tasks"].setdefault(source.name, [lane, 0, 0])
        try:
            rows = self._dense_step(lane, after) if self._dense else self._packed_step(lane, after)
        except UserError as error:
            error.add_note(f"while lane {lane} was filled for step {step}")
            raise
        return rows, after

    def _dense_step(self, lane: int, cursor: Cursor) -> Rows:
        name = self.spec.sources[0].name
        counts: dict[str, int] = {}
        missing = self.spec.rows // self.spec.lanes
        inputs, targets = [], []
        while missing:
            group = self._at(lane, name, cursor, counts)
            index = cursor["tasks"][name][1]
            stop = min(index + missing, len(group.examples))
            inputs.append(_matrix(group.examples.inputs, index, stop))
            targets.append(_matrix(group.examples.targets, index, stop))
            self._advance(cursor, name, group, stop, counts)
            missing -= stop - index
        cursor["draws"] += sum(map(len, inputs))
        whole = np.concatenate(inputs), np.concatenate(targets)
        _count(counts, name, len(whole[0]), whole[0].size, whole[1].size)
        return dense_rows(
            *whole,
            decoder_only=self.spec.decoder_only,
            targets_only=self.spec.loss == "targets",
            counts=counts,
        )

    def _packed_step(self, lane: int, cursor: Cursor) -> Rows:
        counts: dict[str, int] = {}
        packer = self._packer(self.spec.rows // self.spec.lanes)
        while True:
            name = self.spec.sources[self._drawn(lane, cursor["draws"])].name
            group = self._at(lane, name, cursor, counts)
            index = cursor["tasks"][name][1]
            inputs, targets = group.examples.inputs[index], group.examples.targets[index]
            if not packer.add(inputs, targets):
                return packer.rows(counts)
            _count(counts, name, 1, len(inputs), len(targets))
            cursor["draws"] += 1
            self._advance(cursor, name, group, index + 1, counts)

    def _packer(self, rows: int) -> Packer:
        inputs, targets = self.spec.lengths
        return Packer(
            rows, inputs, targets, decoder_only=self.spec.decoder_only,
            targets_only=self.spec.loss == "targets", pack=self.spec.pack,
        )  # fmt: skip

    def _at(self, lane: int, name: str, cursor: Cursor, counts: dict[str, int]) -> Group:
        """The group that the cursor points into; groups without an example are passed over."""
        held = self._groups.get((lane, name))
        stream = self._streams[name]
        for _ in range(stream.plan.blocks + 1):
            n, index, carry = cursor["tasks"][name]
            if held is None or (held.n, held.carry) != (n, carry):
                held = stream.group(n, carry, held)
                self._groups[lane, name] = held
            if index < len(held.examples):
                return held
            self._advance(cursor, name, held, index, counts)
        raise UserError(f"{name} gives no example in a whole epoch: every record of it is empty or filtered out")

    def _advance(self, cursor: Cursor, name: str, group: Group, index: int, counts: dict[str, int]) -> None:
        if index < len(group.examples):
            cursor["tasks"][name][1] = index
            return
        cursor["tasks"][name] = [group.following[0], 0, group.following[1]]
        for what, value in group.counts.items():
            counts[f"{what}/{name}"] = counts.get(f"{what}/{name}", 0) + value
        if group.examples.truncated:
            counts[f"truncated/{name}"] = counts.get(f"truncated/{name}", 0) + group.examples.truncated

    def _drawn(self, lane: int, draw: int) -> int:
        """Which source draw number `draw` of the lane picks."""
        if len(self.spec.sources) == 1:
            return 0
        chunk, position = divmod(draw, DRAWS_AT_ONCE)
        held = self._draws.get(lane)
        if held is None or held[0] != chunk:
            uniform = generator(self.spec.seed, "mixture", lane, chunk).random(DRAWS_AT_ONCE)
            held = chunk, np.searchsorted(self._cumulative, uniform, side="right")
            self._draws[lane] = held
        return int(min(held[1][position], len(self.spec.sources) - 1))

    def _load_vocabulary(self, open_corpus: Callable[[str], Any]) -> Vocabulary:
        url = self.spec.vocabulary or next((s.corpus for s in self.spec.sources if s.corpus is not None), None)
        if url is None:
            raise UserError("no corpus names a vocabulary; set `vocabulary` to a folder that holds one")
        if url in self._corpora:
            return Vocabulary.load(self._corpora[url].storage)
        return Vocabulary.load(open_storage(url))

    def _is_dense(self) -> bool:
        if len(self.spec.sources) > 1 or self.spec.sources[0].objective is None:
            return False
        return self._objective(self.spec.sources[0].objective).dense

    def _objective(self, objective: ObjectiveSpec) -> Objective:
        return create(objective, *self.spec.lengths, self.vocabulary.size)

    def _stream(self, source: Source) -> Stream:
        spec, key = self.spec, (self.spec.seed, source.name, source.split)
        if source.objective is None:
            if source.name not in self._tasks:
                raise UserError(f"{source.name!r} has no objective and is no known task; register it or give it one")
            task = self._tasks[source.name]
            records = task.records(source.split)
            plan = Plan(
                [records], records_per_block(records, records << 9, spec.block_bytes, spec.lanes), *key, "blocks"
            )
            return TaskStream(plan, spec.lanes, task, source.split, self.vocabulary, spec.lengths, *key, "order")
        if source.corpus is None:
            raise UserError(f"{source.name!r} has an objective but no corpus; name one")
        corpus = self._corpora[source.corpus]
        shards = corpus.index.shards(source.split)
        size = records_per_block(
            sum(s.records for s in shards), sum(s.bytes for s in shards), spec.block_bytes, spec.lanes
        )
        plan = Plan([s.records for s in shards], size, *key, "blocks")
        if source.limit is not None:
            plan = plan.limited(source.limit[0])
        documents = Documents(
            corpus, source.split, self.vocabulary, *key, "order", bad_records=spec.bad_records, limit=source.limit
        )
        objective = self._objective(source.objective)
        kind = JoinedStream if objective.joins else DocumentStream
        return kind(plan, spec.lanes, documents, objective, *key, "noise")


def _matrix(rows: Any, start: int, stop: int) -> NDArray[np.uint16]:
    width = int(rows.offsets[1] - rows.offsets[0])
    matrix: NDArray[np.uint16] = rows.matrix(start, stop, width)
    return matrix


def _count(counts: dict[str, int], name: str, examples: int, inputs: int, targets: int) -> None:
    for what, value in (
        (f"examples/{name}", examples), ("input_tokens", inputs), ("target_tokens", targets)
    ):  # fmt: skip
        counts[what] = counts.get(what, 0) + value
