"""Lanes: the endless, deterministic sequences of rows that a global batch is made of (laws 1 and 2 of the
design).

A lane is a pure function of the specification and its number. Its cursor is small plain data: how many examples
were drawn from the mixture, and for each task the block number, the example inside its group, and the tokens of
the block that were used before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError
from data.packing import Packer, Rows, dense_rows
from data.random import generator
from data.sources import Opened, open_corpus
from data.specification import LanesSpec, Source
from data.streams import FOREIGN, Group, SupervisedTask
from data.vocabulary import Vocabulary

__all__ = ["Cursor", "Lanes", "LanesSpec", "Source"]

DRAWS_AT_ONCE = 1024


class Cursor(TypedDict):
    """Where a lane stands; JSON-able. `tasks` maps a name to [block number n, example index, carried tokens]."""

    draws: int
    tasks: dict[str, list[int]]


class Lanes:
    """Serves the rows of any lane at any cursor; holds caches, no state.

    `tasks` maps names of supervised sources to tasks that are not to be looked up by the specification;
    `vocabulary` and `open_corpus` save opening again what is at hand. With an `executor` (threads) the block
    after the one in use is read in the background.
    """

    def __init__(
        self,
        spec: LanesSpec,
        tasks: Mapping[str, SupervisedTask] | None = None,
        vocabulary: Vocabulary | None = None,
        open_corpus: Callable[[str], Any] = open_corpus,
        executor: Executor | None = None,
    ) -> None:
        self.spec = spec
        opened = Opened(spec, tasks, vocabulary, open_corpus, executor)
        self.vocabulary = opened.vocabulary
        self.dense = opened.dense
        self._streams = {source.name: opened.stream(source) for source in spec.sources}
        cumulative = np.cumsum([source.rate for source in spec.sources])
        self._cumulative = cumulative / cumulative[-1]
        self._groups: dict[tuple[int, str], Group] = {}
        self._draws: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def start(self, lane: int) -> Cursor:
        """The cursor of a lane that gave nothing yet."""
        return {"draws": 0, "tasks": {source.name: [lane, 0, 0] for source in self.spec.sources}}

    def prefetch(self, lane: int, cursor: Cursor) -> None:
        """Begin to read the blocks that the lane's next step needs, where there is an executor; for a start,
        when many lanes would else wait for storage one after the other.
        """
        places = (cursor or self.start(lane))["tasks"]
        for name, stream in self._streams.items():
            stream.prefetch(places.get(name, [lane])[0])

    def held_bytes(self) -> int:
        """The size of the examples and tokens at hand, at most a block and its neighbor for each lane and task, and of
        the words that the vocabulary keeps.
        """
        return sum(group.nbytes for group in self._groups.values()) + self.vocabulary.nbytes

    def step(self, lane: int, cursor: Cursor, step: int) -> tuple[Rows, Cursor]:
        """The lane's rows of one step and the cursor behind them; an empty cursor is the beginning.

        `step` is named in errors alone.
        """
        if not 0 <= lane < self.spec.lanes:
            raise ValueError(f"lane {lane} is outside the {self.spec.lanes} lanes of the batch")
        after = self.start(lane)
        if cursor:
            after["draws"] = cursor["draws"]
            after["tasks"].update({name: list(place) for name, place in cursor["tasks"].items()})
        try:
            rows = self._dense_step(lane, after) if self.dense else self._packed_step(lane, after)
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
            name = self.spec.sources[self.draw(lane, cursor["draws"])].name
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
            if index > len(held.examples):
                raise UserError(f"block {n} of {name} has {len(held.examples)} examples, not {index}; {FOREIGN}")
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

    def draw(self, lane: int, draw: int) -> int:
        """The number of the source that draw number `draw` of the lane picks."""
        if len(self.spec.sources) == 1:
            return 0
        chunk, position = divmod(draw, DRAWS_AT_ONCE)
        held = self._draws.get(lane)
        if held is None or held[0] != chunk:
            uniform = generator(self.spec.seed, "mixture", lane, chunk).random(DRAWS_AT_ONCE)
            held = chunk, np.searchsorted(self._cumulative, uniform, side="right")
            self._draws[lane] = held
        return int(held[1][position])


def _matrix(rows: Any, start: int, stop: int) -> NDArray[np.uint16]:
    width = int(rows.offsets[1] - rows.offsets[0])
    matrix: NDArray[np.uint16] = rows.matrix(start, stop, width)
    return matrix


def _count(counts: dict[str, int], name: str, examples: int, inputs: int, targets: int) -> None:
    for what, value in (
        (f"examples/{name}", examples), ("input_tokens", inputs), ("target_tokens", targets)
    ):  # fmt: skip
        counts[what] = counts.get(what, 0) + value
