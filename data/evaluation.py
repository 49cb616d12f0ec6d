"""Rows for held-out loss: every record of a split once, in the same order and with the same noise for every
run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.packing import Packer, Rows, dense_rows
from data.sources import Opened, open_corpus
from data.specification import LanesSpec
from data.streams import SupervisedTask
from data.vocabulary import Vocabulary

Pair = tuple[NDArray[np.uint16], NDArray[np.uint16]]


def evaluation_rows(
    spec: LanesSpec,
    split: str = "validation",
    limit: int | None = None,
    source: str | None = None,
    tasks: Mapping[str, SupervisedTask] | None = None,
    vocabulary: Vocabulary | None = None,
    open_corpus: Callable[[str], Any] = open_corpus,
) -> Iterator[Rows]:
    """Batches of `spec.rows` rows, one example a row, over `split` of one source (by default the first).

    Neither the seed nor the number of lanes matters, so runs can be compared. At most `limit` examples are
    given. The last batch is filled up with rows of padding (all 0, segment ids 0). Batches of full rows of one
    length come without segment ids. Raises UserError where the split does not exist or holds no example.
    """
    name = source or spec.sources[0].name
    # Target length and vocabulary are those of the whole mixture, which the chosen source alone may not tell.
    chosen = replace(
        spec,
        sources=(replace(spec.source(name), split=split, rate=1.0, limit=None),),
        targets_length=spec.lengths[1],
        vocabulary=spec.vocabulary_url,
    )
    opened = Opened(chosen, tasks, vocabulary, open_corpus)
    examples = islice(_examples(opened), limit)
    while batch := list(islice(examples, spec.rows)):
        yield _dense(chosen, batch) if opened.dense and _full(chosen, batch) else _padded(chosen, batch)


def _examples(opened: Opened) -> Iterator[Pair]:
    stream = opened.evaluation_stream(opened.spec.sources[0])
    group = None
    n, carry = 0, 0
    while n < stream.plan.blocks:
        group = stream.group(n, carry, group)
        for row in range(len(group.examples)):
            yield group.examples.inputs[row], group.examples.targets[row]
        n, carry = group.following


def _full(spec: LanesSpec, batch: list[Pair]) -> bool:
    lengths = spec.lengths
    return len(batch) == spec.rows and all((len(i), len(t)) == lengths for i, t in batch)


def _dense(spec: LanesSpec, batch: list[Pair]) -> Rows:
    return dense_rows(
        np.stack([inputs for inputs, _ in batch]),
        np.stack([targets for _, targets in batch]),
        decoder_only=spec.decoder_only,
        targets_only=spec.loss == "targets",
        counts=_counts(spec, batch),
    )


def _padded(spec: LanesSpec, batch: list[Pair]) -> Rows:
    packer = Packer(
        spec.rows, *spec.lengths, decoder_only=spec.decoder_only, targets_only=spec.loss == "targets", pack=False
    )
    for inputs, targets in batch:
        packer.add(inputs, targets)
    return packer.rows(_counts(spec, batch))


def _counts(spec: LanesSpec, batch: list[Pair]) -> dict[str, int]:
    return {
        f"examples/{spec.sources[0].name}": len(batch),
        "input_tokens": sum(len(inputs) for inputs, _ in batch),
        "target_tokens": sum(len(targets) for _, targets in batch),
    }
