"""Streams: what one task gives one lane, block by block, as a pure function of (seed, task, block number,
carry).

Three kinds. A joined stream (most unsupervised objectives) lays the documents of a lane's blocks end to end and
cuts the tokens into segments that run on over block borders, so no token is dropped and no short segment
arises. A document stream (prefix LM, deshuffling) cuts each document on its own. A task stream formats and
encodes supervised records.

The original keeps one random chunk of a document above 65,536 tokens and drops the rest; here every token is
kept: a joined stream needs no chunks, and a document stream cuts the whole document into segments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data.blocks import Plan
from data.documents import Documents
from data.errors import UserError
from data.objectives import Examples, Objective, Ragged
from data.random import generator
from data.unusable import Unusable

FOREIGN = "the cursor belongs to other data or another configuration: resume with those it was made with"


@dataclass(frozen=True)
class Group:
    """The examples that begin in block `n` when its first `carry` tokens were used before.

    `following` is the (n, carry) of the lane's next group; `ahead` the tokens of that group's block where they
    were read already. `counts` covers the blocks that were opened for this group.
    """

    n: int
    carry: int
    examples: Examples
    following: tuple[int, int]
    counts: dict[str, int]
    ahead: NDArray[np.uint16] | None = None

    @property
    def nbytes(self) -> int:
        """The size of its arrays in bytes."""
        features = (self.examples.inputs, self.examples.targets)
        size = sum(feature.tokens.nbytes + feature.offsets.nbytes for feature in features)
        return size + (0 if self.ahead is None else self.ahead.nbytes)


class Stream(ABC):
    """One task's stream for all lanes of `lanes`; lane p owns the block numbers n ≡ p (mod lanes)."""

    def __init__(self, plan: Plan, lanes: int) -> None:
        self.plan = plan
        self.lanes = lanes

    @abstractmethod
    def group(self, n: int, carry: int, previous: Group | None = None) -> Group:
        """The group at (n, carry); `previous` is the lane's group before, if at hand, and saves work alone."""

    def prefetch(self, n: int) -> None:  # noqa: B027 - a stream without storage behind it has nothing to fetch
        """Begin to read the block at sequence number n in the background, if the stream can."""


class _DocumentsStream(Stream):
    """What streams of documents under an objective have in common."""

    def __init__(self, plan: Plan, lanes: int, documents: Documents, objective: Objective, *key: int | str) -> None:
        super().__init__(plan, lanes)
        self._documents = documents
        self._objective = objective
        self._key = key

    def prefetch(self, n: int) -> None:
        self._documents.prefetch(self.plan, n)


class JoinedStream(_DocumentsStream):
    """Documents joined to one token stream a lane, cut into segments of the objective's raw length.

    Without `endless` the stream ends behind the last block, and its last segment may be short.
    """

    def __init__(
        self,
        plan: Plan,
        lanes: int,
        documents: Documents,
        objective: Objective,
        *key: int | str,
        endless: bool = True,
    ) -> None:
        super().__init__(plan, lanes, documents, objective, *key)
        self._endless = endless

    def group(self, n: int, carry: int, previous: Group | None = None) -> Group:
        counts: dict[str, int] = {}
        if previous is not None and previous.ahead is not None and previous.following == (n, carry):
            tokens = previous.ahead
        else:
            # A block entered with a carry was counted by the group that ran over into it.
            tokens = self._read(n, counts if carry == 0 else {})
        if carry > len(tokens):
            raise UserError(f"{carry} tokens of block {n} are said to be used, but it has {len(tokens)}; {FOREIGN}")
        length = self._objective.raw_length
        rows = -(-(len(tokens) - carry) // length)
        parts, missing = [tokens[carry:]], rows * length - (len(tokens) - carry)
        at, used, ahead = n, len(tokens), tokens
        while missing and (self._endless or at + self.lanes < self.plan.blocks):
            at += self.lanes
            ahead = self._read(at, counts)
            used = min(missing, len(ahead))
            parts.append(ahead[:used])
            missing -= used
        following = (at, used) if used < len(ahead) else (at + self.lanes, 0)
        stream = np.concatenate(parts) if len(parts) > 1 else parts[0]
        self.prefetch(at + self.lanes)
        segments = Ragged.from_lengths(stream, cut_lengths(np.array([len(stream)]), length))
        examples = self._objective(generator(*self._key, n), segments)
        return Group(n, carry, examples, following, counts, ahead if following[1] else None)

    def _read(self, n: int, counts: dict[str, int]) -> NDArray[np.uint16]:
        found, statistics = self._documents.read(self.plan, n)
        _add(counts, statistics)
        return found.tokens


class DocumentStream(_DocumentsStream):
    """Each document cut into segments of its own, the last of them short."""

    def group(self, n: int, carry: int, previous: Group | None = None) -> Group:
        documents, counts = self._documents.read(self.plan, n)
        self.prefetch(n + self.lanes)
        segments = Ragged.from_lengths(documents.tokens, cut_lengths(documents.lengths, self._objective.raw_length))
        examples = self._objective(generator(*self._key, n), segments)
        return Group(n, 0, examples, (n + self.lanes, 0), counts)


class SupervisedTask(Protocol):
    """What a stream needs of a task: records by number, and their examples as token ids.

    What `encode` gives holds `inputs` and `targets` (uint16, EOS last) and whether they were cut, `inputs_cut` and
    `targets_cut`.
    """

    def records(self, split: str) -> int: ...

    def read(self, split: str, start: int, count: int) -> Sequence[Any]: ...

    def format(self, record: Any, *, evaluate: bool = False) -> Sequence[Any]: ...

    def encode(self, examples: Sequence[Any], vocabulary: Any) -> Sequence[Any]: ...


class TaskStream(Stream):
    """Supervised examples of a block in keyed order, cut to the rows' lengths where the task's own are longer."""

    def __init__(
        self,
        plan: Plan,
        lanes: int,
        name: str,
        task: SupervisedTask,
        split: str,
        vocabulary: object,
        lengths: tuple[int, int],
        *key: int | str,
        bad_records: int = 0,
        evaluate: bool = False,
    ) -> None:
        super().__init__(plan, lanes)
        self._task, self._split, self._vocabulary = task, split, vocabulary
        self._lengths = lengths
        self._key = key
        self._unusable = Unusable(f"split {split!r} of task {name!r}", bad_records)
        self._evaluate = evaluate

    def group(self, n: int, carry: int, previous: Group | None = None) -> Group:
        block = self.plan.block(self.plan.number(n))
        formatted: list[Any] = []
        bad = 0
        for number, record in enumerate(self._task.read(self._split, block.start, block.count), start=block.start):
            try:
                formatted += self._task.format(record, evaluate=self._evaluate)
            except UserError as error:
                self._unusable.charge(str(number), error)
                bad += 1
        encoded = self._task.encode(formatted, self._vocabulary) if formatted else []
        if not self._evaluate:
            encoded = [encoded[i] for i in generator(*self._key, n).permutation(len(encoded))]
        inputs, cut_inputs = _fit([e.inputs for e in encoded], self._lengths[0])
        targets, cut_targets = _fit([e.targets for e in encoded], self._lengths[1])
        truncated = cut_inputs + cut_targets + sum(e.inputs_cut + e.targets_cut for e in encoded)
        counts = {"records": block.count} | ({"bad_records": bad} if bad else {})
        return Group(n, 0, Examples(inputs, targets, truncated), (n + self.lanes, 0), counts)


def cut_lengths(lengths: NDArray[np.int64], longest: int) -> NDArray[np.int64]:
    """The lengths of the segments when rows of `lengths` tokens are each cut every `longest` tokens."""
    pieces = -(-lengths // longest)
    cut = np.full(int(pieces.sum()), longest, np.int64)
    ends = np.cumsum(pieces) - 1
    some = pieces > 0
    cut[ends[some]] = (lengths - (pieces - 1) * longest)[some]
    return cut


def _fit(rows: Sequence[NDArray[np.uint16]], maximum: int) -> tuple[Ragged, int]:
    """The rows, those above `maximum` cut in front of their EOS, and how many that were."""
    longer = sum(len(row) > maximum for row in rows)
    if longer:
        rows = [row if len(row) <= maximum else np.concatenate([row[: maximum - 1], row[-1:]]) for row in rows]
    return Ragged.from_rows(rows), longer


def _add(counts: dict[str, int], more: dict[str, int]) -> None:
    for name, value in more.items():
        counts[name] = counts.get(name, 0) + value
