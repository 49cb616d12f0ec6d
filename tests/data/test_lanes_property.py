"""The laws on specifications that nobody chose: any mixture, objective, architecture, blocks and lanes."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from data.evaluation import evaluation_rows
from data.lanes import Cursor, Lanes, LanesSpec, Source
from data.objectives import NAMES, ObjectiveSpec
from tests.data.fakes import FakeTask, ids_corpus, vocabulary
from tests.data.test_lanes import digest

CORPUS = ids_corpus([25, 1, 14], mean_length=25)
TASKS = {"large": FakeTask(37, longest=30), "small": FakeTask(3)}


@st.composite
def specifications(draw: st.DrawFn) -> LanesSpec:
    sources = [
        Source(f"c4_{name}", draw(st.floats(0.1, 5)), corpus="memory", objective=ObjectiveSpec(name))
        for name in draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True))
    ]
    names = draw(st.lists(st.sampled_from(sorted(TASKS)), min_size=0 if sources else 1, unique=True))
    sources += [Source(name, draw(st.floats(0.1, 5))) for name in names]
    lanes = draw(st.integers(1, 6))
    return LanesSpec(
        tuple(sources),
        lanes=lanes,
        rows=lanes * draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 100)),
        inputs_length=draw(st.integers(20, 50)),
        targets_length=draw(st.integers(30, 50)),
        architecture=draw(st.sampled_from(["encoder_decoder", "shared", "language_model", "prefix_lm"])),
        loss=draw(st.sampled_from(["all", "targets"])),
        pack=draw(st.booleans()),
        block_bytes=draw(st.integers(1, 3000)),
    )


def opened(spec: LanesSpec) -> Lanes:
    return Lanes(spec, TASKS, vocabulary(), lambda url: CORPUS)


@settings(max_examples=60)
@given(spec=specifications(), data=st.data())
def test_a_run_killed_anywhere_goes_on_with_the_same_rows(spec: LanesSpec, data: st.DataObject) -> None:
    lane, steps = data.draw(st.integers(0, spec.lanes - 1)), 12
    kills = data.draw(st.sets(st.integers(0, steps - 1)))
    whole, killed = opened(spec), opened(spec)
    one: Cursor = whole.start(lane)
    two: Cursor = killed.start(lane)
    for step in range(steps):
        if step in kills:
            killed, two = opened(spec), json.loads(json.dumps(two))
        rows, one = whole.step(lane, one, step)
        again, two = killed.step(lane, two, step)
        assert digest(rows) == digest(again)
        assert rows.counts == again.counts
        assert one == two
        assert len(rows) == spec.rows // spec.lanes


@settings(max_examples=40)
@given(spec=specifications())
def test_every_epoch_of_every_source_reads_every_record_once(spec: LanesSpec) -> None:
    served = opened(spec)
    for source in spec.sources:
        stream = served._streams[source.name]
        total = 40 if source.objective is not None else TASKS[source.name].size
        for epoch in range(3):
            seen: Counter[tuple[int, int]] = Counter()
            for lane in range(spec.lanes):
                first = epoch * stream.plan.blocks
                for n in range(first + (lane - first) % spec.lanes, first + stream.plan.blocks, spec.lanes):
                    block = stream.plan.block(stream.plan.number(n))
                    seen.update((block.shard, block.start + i) for i in range(block.count))
            assert len(seen) == total
            assert set(seen.values()) == {1}


@settings(max_examples=40)
@given(spec=specifications())
def test_held_out_rows_have_the_shape_of_training_rows(spec: LanesSpec) -> None:
    name = spec.sources[0].name
    found = 0
    for batch in evaluation_rows(spec, "train", 30, name, TASKS, vocabulary(), lambda url: CORPUS):
        assert len(batch) == spec.rows
        assert (batch.inputs is None) == spec.decoder_only
        found += batch.counts[f"examples/{name}"]
    total = TASKS[name].size if name in TASKS else 30
    assert 0 < found <= min(30, total)
