"""What a look at the data shows, as plain data: the rows of a step, the plan of blocks, statistics, mixing
rates.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from typing import Any

import numpy as np

from data.lanes import Cursor, Lanes
from data.mixing import PRESETS, STUDY_SIZES, normalized, preset, rates, shares
from data.naming import unknown
from data.packing import Rows
from data.sources import Opened
from data.specification import LanesSpec
from data.tasks import get_mixture, mixture_names, task_names
from data.vocabulary import Vocabulary

BLOCKS_SHOWN = 6


def mixture(name: str, mixing: str = "proportional_19") -> dict[str, Any]:
    """`shares` by the columns of the paper's tables and `rates` by task of a mixing preset over the study's
    tasks, or of a registered mixture whose study tasks count by the preset `mixing`.
    """
    if name in PRESETS:
        found = rates(STUDY_SIZES, preset(name))
    elif name not in mixture_names() and name not in task_names():
        raise unknown("mixing preset or mixture", name, [*PRESETS, *mixture_names()])
    else:
        found = get_mixture(name).rates_by(preset(mixing), STUDY_SIZES)
    return {"mixture": name, "shares": shares(found), "rates": found}


def rates_of(name: str, spec: LanesSpec) -> dict[str, Any]:
    """The same for the mixture of a run, whose tasks were opened and counted."""
    found = normalized({source.name: source.rate for source in spec.sources})
    return {"mixture": name, "shares": shares(found), "rates": found}


def layout(spec: LanesSpec, opened: Opened, lane: int) -> dict[str, Any]:
    """Lengths, sources, and the next blocks of `lane` in the first epoch of each source."""
    inputs, targets = spec.lengths
    return {
        "rows": spec.rows,
        "lanes": spec.lanes,
        "seed": spec.seed,
        "architecture": spec.architecture,
        "inputs_length": inputs,
        "targets_length": targets,
        "dense": opened.dense,
        "sources": [_source(spec, opened, number, lane) for number in range(len(spec.sources))],
    }


def _source(spec: LanesSpec, opened: Opened, number: int, lane: int) -> dict[str, Any]:
    source = spec.sources[number]
    objective = opened.objective(source)
    plan = opened.stream(source).plan
    shown = []
    for n in range(lane, lane + BLOCKS_SHOWN * spec.lanes, spec.lanes):
        block = plan.block(plan.number(n))
        shown.append(
            {"n": n, "epoch": n // plan.blocks, "shard": block.shard, "start": block.start, "records": block.count}
        )
    return {
        "name": source.name,
        "rate": source.rate / math.fsum(each.rate for each in spec.sources),
        "split": source.split,
        "corpus": source.corpus,
        "objective": None if source.objective is None else source.objective.name,
        "raw_length": None if objective is None else objective.raw_length,
        "blocks_an_epoch": plan.blocks,
        "records_a_block": plan.block(0).count,
        "blocks_of_lane": shown,
    }


def step(lanes: Lanes, lane: int, number: int, shown: int) -> dict[str, Any]:
    """The rows of one lane at step `number`, decoded (at most `shown`), with the cursors around it, and
    statistics of all steps up to it. Takes the time of making the lane's steps before.
    """
    cursor: Cursor = lanes.start(lane)
    total: Counter[str] = Counter()
    slots = np.zeros(2, np.int64)
    for before in range(number + 1):
        start = cursor
        rows, cursor = lanes.step(lane, cursor, before)
        total.update(rows.counts)
        slots += (0 if rows.inputs is None else rows.inputs.size, rows.targets.size)
    return {
        "step": number,
        "lane": lane,
        "cursor": start,
        "cursor_after": cursor,
        "counts": rows.counts,
        "rows": [_row(rows, row, lanes.vocabulary) for row in range(min(shown, len(rows)))],
        "until_here": statistics(dict(total), slots.tolist(), lanes.spec.decoder_only),
    }


def statistics(counts: dict[str, int], slots: list[int], decoder_only: bool) -> dict[str, Any]:
    """Counts of rows and how full they are: tokens over places, for inputs and targets (together where joined)."""
    inputs, targets = counts.get("input_tokens", 0), counts.get("target_tokens", 0)
    if decoder_only:
        fill = {"sequences": (inputs + targets) / max(1, slots[1])}
    else:
        fill = {"inputs": inputs / max(1, slots[0]), "targets": targets / max(1, slots[1])}
    examples = sum(count for name, count in counts.items() if name.startswith("examples/"))
    truncated = sum(count for name, count in counts.items() if name.startswith("truncated/"))
    return {"counts": counts, "fill_rate": fill, "examples": examples, "truncated": truncated}


def documents(opened: Opened, blocks: int) -> list[dict[str, Any]]:
    """For each unsupervised source, its first `blocks` blocks in training order: documents, tokens, exact
    duplicates.
    """
    found = []
    for source in opened.spec.sources:
        if source.objective is None:
            continue
        key = (opened.spec.seed, source.name, source.split)
        plan = opened.plan(source, opened.spec.lanes, key, endless=True)
        reader = opened.documents(source, key, endless=True)
        seen: Counter[bytes] = Counter()
        lengths: list[int] = []
        counts: Counter[str] = Counter()
        read = min(blocks, plan.blocks)
        for n in range(read):
            rows, more = reader.read(plan, n)
            counts.update(more)
            lengths += rows.lengths.tolist()
            seen.update(hashlib.blake2b(rows[row].tobytes(), digest_size=16).digest() for row in range(len(rows)))
        found.append(
            {
                "name": source.name,
                "blocks": read,
                "of_blocks": plan.blocks,
                **{name: counts[name] for name in ("records", "bad_records", "empty_records")},
                "tokens": sum(lengths),
                "mean_tokens": sum(lengths) / max(1, len(lengths)),
                "longest_tokens": max(lengths, default=0),
                "duplicates": sum(count - 1 for count in seen.values()),
            }
        )
    return found


def _row(rows: Rows, row: int, vocabulary: Vocabulary) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, ids, segments in (
        ("inputs", rows.inputs, rows.input_segments),
        ("targets", rows.targets, rows.target_segments),
    ):
        if ids is None:
            continue
        marks = np.ones(ids.shape[1], np.uint8) if segments is None else segments[row]
        shown[name] = [
            vocabulary.decode_pretty(ids[row][marks == segment]) for segment in range(1, int(marks.max(initial=0)) + 1)
        ]
        shown[f"{name}_tokens"] = int(np.count_nonzero(marks))
    return shown
