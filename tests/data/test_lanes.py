"""Laws 1 and 2: rows are a pure function, and every record comes once an epoch, whatever is killed and resumed."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from data.errors import UserError
from data.lanes import Cursor, Lanes, LanesSpec, Source
from data.objectives import NAMES, ObjectiveSpec
from data.packing import Rows
from tests.data.fakes import FakeCorpus, FakeTask, ids_corpus, vocabulary
from tests.data.objectives import reference

LANES, ROWS = 8, 16
CORPUS = ids_corpus([70, 9, 41], mean_length=40)
DENSE = LanesSpec(
    (Source("c4", corpus="memory", objective=ObjectiveSpec()),), lanes=LANES, rows=ROWS, seed=11, inputs_length=32
)
MIXED = replace(
    DENSE,
    sources=(
        Source("c4", 0.4, corpus="memory", objective=ObjectiveSpec()),
        Source("shuffled", 0.2, corpus="memory", objective=ObjectiveSpec("deshuffling")),
        Source("large", 0.3),
        Source("small", 0.1),
    ),
    targets_length=40,
)
TASKS = {"large": FakeTask(83), "small": FakeTask(5, longest=3)}


def lanes(spec: LanesSpec, corpus: FakeCorpus = CORPUS, **more: object) -> Lanes:
    return Lanes(spec, TASKS, vocabulary(), lambda url: corpus, **more)  # type: ignore[arg-type]


def digest(rows: Rows) -> str:
    arrays = (rows.inputs, rows.targets, rows.input_segments, rows.target_segments, rows.prefix, rows.loss_mask)
    return repr([None if a is None else (a.dtype.str, a.shape, a.tobytes()) for a in arrays])


def undisturbed(spec: LanesSpec, steps: int) -> list[list[str]]:
    """[step][lane] digests of one run that is never stopped."""
    served = lanes(spec)
    cursors = [served.start(lane) for lane in range(LANES)]
    out = []
    for step in range(steps):
        rows = []
        for lane in range(LANES):
            part, cursors[lane] = served.step(lane, cursors[lane], step)
            rows.append(digest(part))
        out.append(rows)
    return out


@pytest.mark.parametrize("spec", [DENSE, MIXED], ids=["dense", "mixed"])
def test_kills_at_every_step_and_any_world_size_give_the_same_rows(spec: LanesSpec) -> None:
    steps = 30
    expected = undisturbed(spec, steps)
    worlds = [1, 2, 3, 4, 8]
    saved = json.dumps({lane: lanes(spec).start(lane) for lane in range(LANES)})
    for step in range(steps):
        # Everything dies: all that is left is the checkpoint's text, and another number of workers goes on.
        cursors: dict[int, Cursor] = {int(lane): cursor for lane, cursor in json.loads(saved).items()}
        world = worlds[step % len(worlds)]
        got: dict[int, str] = {}
        for rank in range(world):
            served = lanes(pickle.loads(pickle.dumps(spec)))
            for lane in range(rank, LANES, world):
                rows, cursors[lane] = served.step(lane, cursors[lane], step)
                got[lane] = digest(rows)
        assert [got[lane] for lane in range(LANES)] == expected[step]
        saved = json.dumps(cursors)


@pytest.mark.parametrize("spec", [DENSE, MIXED], ids=["dense", "mixed"])
def test_read_ahead_and_order_of_lanes_change_nothing(spec: LanesSpec) -> None:
    expected = undisturbed(spec, 6)
    with ThreadPoolExecutor(2) as executor:
        served = lanes(spec, executor=executor)
        for lane in reversed(range(LANES)):
            cursor: Cursor = {}  # type: ignore[typeddict-item]
            served.prefetch(lane, cursor)
            for step in range(6):
                rows, cursor = served.step(lane, cursor, step)
                assert digest(rows) == expected[step][lane]


def test_text_and_ids_of_the_same_documents_give_the_same_rows() -> None:
    rng = np.random.default_rng(2)
    texts = [" ".join(rng.choice(["kalo", "mitan", "tersun", "vevo"], rng.integers(1, 60))) for _ in range(40)]
    text = FakeCorpus("text", {"train": [texts]})
    ids = FakeCorpus("ids", {"train": [[vocabulary().encode(t) for t in texts]]})
    # Blocks small enough to be sized by the number of lanes, not by stored bytes.
    assert [digest(lanes(DENSE, text).step(lane, {}, 0)[0]) for lane in range(LANES)] == [  # type: ignore[typeddict-item]
        digest(lanes(DENSE, ids).step(lane, {}, 0)[0])  # type: ignore[typeddict-item]
        for lane in range(LANES)
    ]


def test_what_is_held_does_not_grow_with_steps() -> None:
    served = lanes(DENSE)
    cursors = [served.start(lane) for lane in range(LANES)]
    held = []
    for step in range(60):
        for lane in range(LANES):
            _, cursors[lane] = served.step(lane, cursors[lane], step)
        held.append(served.held_bytes())
    assert 0 < max(held[30:]) <= 1.5 * max(held[:30])
    # Two blocks of a lane, as examples and as tokens, are all that there is to hold.
    tokens = sum(len(d) for shard in CORPUS.splits["train"] for d in shard)
    assert max(held) - served.vocabulary.nbytes < 16 * tokens


def test_a_step_leaves_the_cursor_given_to_it_alone() -> None:
    served = lanes(MIXED)
    cursor = served.start(3)
    before = json.dumps(cursor)
    first, _ = served.step(3, cursor, 0)
    assert json.dumps(cursor) == before
    assert digest(served.step(3, cursor, 0)[0]) == digest(first)


def numbered_corpus(shards: list[int]) -> tuple[FakeCorpus, Counter[int]]:
    """Documents of one to nine tokens, all tokens of the corpus different from each other."""
    rng = np.random.default_rng(4)
    token, documents = 3, []
    for count in shards:
        documents.append([])
        for size in rng.integers(1, 10, count).tolist():
            documents[-1].append(list(range(token, token + size)))
            token += size
    assert token < 400
    return FakeCorpus("ids", {"train": documents}), Counter(range(3, token))


@pytest.mark.parametrize("lanes_count", [1, 2, 4, 8])
def test_joined_stream_delivers_every_token_once_an_epoch(lanes_count: int) -> None:
    corpus, every = numbered_corpus([30, 5, 20])
    spec = replace(DENSE, lanes=lanes_count, rows=lanes_count, block_bytes=60)
    served = lanes(spec, corpus)
    stream = served._streams["c4"]
    epochs = 3 * lanes_count
    seen: Counter[int] = Counter()
    for lane in range(lanes_count):
        cursor, text = served.start(lane), []
        # Until the lane has left all its blocks of the epochs behind, killed at every step.
        while cursor["tasks"]["c4"][0] < epochs * stream.plan.blocks:
            rows, cursor = lanes(spec, corpus).step(lane, json.loads(json.dumps(cursor)), 0)
            assert rows.inputs is not None
            text += reference.rebuild(rows.inputs[0].tolist(), rows.targets[0].tolist(), 400)
        carried = cursor["tasks"]["c4"][2]
        # What was taken of the next epochs' blocks is not part of the claim.
        extra = carried + skipped_over(served, lane, epochs, cursor)
        seen.update(text[: len(text) - extra])
    assert seen == Counter(dict.fromkeys(every, epochs))


def skipped_over(served: Lanes, lane: int, epochs: int, cursor: Cursor) -> int:
    """Tokens of whole blocks behind the last epoch that the last segment ran over."""
    stream = served._streams["c4"]
    limit = epochs * stream.plan.blocks
    first = limit + (lane - limit) % stream.lanes
    return sum(
        len(stream._documents.read(stream.plan, n)[0].tokens)  # type: ignore[attr-defined]
        for n in range(first, cursor["tasks"]["c4"][0], stream.lanes)
    )


def test_supervised_records_come_once_an_epoch_whatever_the_mixture() -> None:
    served = lanes(MIXED)
    seen: dict[str, Counter[tuple[int, int]]] = {"large": Counter(), "small": Counter()}
    for lane in range(LANES):
        cursor = served.start(lane)
        for step in range(60):
            _, after = lanes(MIXED).step(lane, cursor, step) if step % 7 == 0 else served.step(lane, cursor, step)
            for name, counter in seen.items():
                n, index, _ = after["tasks"][name]
                counter.update(covered(served, lane, name, cursor["tasks"][name][:2], [n, index]))
            cursor = after
    for name, counter in seen.items():
        epochs: Counter[int] = Counter(counter.values())
        assert set(epochs) == {1}, name


def covered(served: Lanes, lane: int, name: str, start: list[int], stop: list[int]) -> list[tuple[int, int]]:
    """(epoch, record's spelled number) between two cursors of a task."""
    stream = served._streams[name]
    out = []
    n, index = start
    while [n, index] < stop:
        group = stream.group(n, 0)
        if index == len(group.examples):
            n, index = n + LANES, 0
            continue
        high, low = group.examples.inputs[index][:2].tolist()
        out.append((n // stream.plan.blocks, (high - 3) * 300 + low - 3))
        index += 1
    return out


def test_an_epoch_of_a_task_holds_each_record_once() -> None:
    served = lanes(MIXED)
    for name, task in TASKS.items():
        stream = served._streams[name]
        for epoch in range(3):
            found = []
            for n in range(epoch * stream.plan.blocks, (epoch + 1) * stream.plan.blocks):
                examples = stream.group(n, 0).examples
                found += [tuple(examples.inputs[row][:2].tolist()) for row in range(len(examples))]
            assert sorted(found) == [(3 + e // 300, 3 + e % 300) for e in range(task.size)]


def test_statistics_of_an_epoch_count_each_record_once() -> None:
    served = lanes(DENSE)
    stream = served._streams["c4"]
    total: Counter[str] = Counter()
    for lane in range(LANES):
        cursor = served.start(lane)
        while cursor["tasks"]["c4"][0] < 8 * stream.plan.blocks:
            rows, cursor = served.step(lane, cursor, 0)
            total.update(rows.counts)
            assert rows.counts["examples/c4"] == ROWS // LANES
            assert rows.counts["input_tokens"] == ROWS // LANES * 32
    # The last segments of the lanes may have opened a block of the next epoch each.
    assert 0 <= total["records/c4"] - 8 * 120 <= LANES * 30


def test_every_pass_draws_fresh_noise() -> None:
    corpus = FakeCorpus("ids", {"train": [[list(range(3, 37))]]})
    served = lanes(replace(DENSE, lanes=1, rows=1), corpus)
    assert served._streams["c4"]._objective.raw_length == 34  # type: ignore[attr-defined]
    cursor, seen = served.start(0), set()
    for step in range(8):
        rows, cursor = served.step(0, cursor, step)
        assert rows.inputs is not None
        seen.add(rows.inputs.tobytes())
        assert reference.rebuild(rows.inputs[0].tolist(), rows.targets[0].tolist(), 400) == list(range(3, 37))
    assert len(seen) > 4


@pytest.mark.parametrize("architecture", ["encoder_decoder", "language_model", "prefix_lm"])
@pytest.mark.parametrize("name", NAMES)
def test_every_objective_fills_rows_of_every_architecture(name: str, architecture: str) -> None:
    spec = replace(
        DENSE,
        sources=(Source("c4", corpus="memory", objective=ObjectiveSpec(name)),),
        architecture=architecture,  # type: ignore[arg-type]
        loss="targets",
    )
    served = lanes(spec)
    rows, _ = served.step(0, {}, 0)  # type: ignore[typeddict-item]
    inputs, targets = spec.lengths
    assert len(rows) == 2
    if architecture == "encoder_decoder":
        assert rows.inputs is not None
        assert (rows.inputs.shape, rows.targets.shape) == ((2, inputs), (2, targets))
        assert (rows.target_segments is None) == served.dense == (name in ("span_corruption", "lm"))
        return
    assert rows.inputs is None
    assert rows.prefix is not None
    assert rows.loss_mask is not None
    assert rows.targets.shape == (2, targets if name == "lm" else inputs + targets)
    assert (rows.prefix.sum() == 0) == (name == "lm")
    filled = rows.targets != 0
    assert (filled == (True if rows.target_segments is None else rows.target_segments > 0)).all()
    assert not (rows.loss_mask & ~filled).any()


def test_text_is_tokenized_and_bad_records_stop_the_run() -> None:
    texts: list[str | bytes] = ["kalo mitan ver", "\u200b", "tersun vevo ka " * 30, b"\xff\xfe", "dopa " * 50]
    corpus = FakeCorpus("text", {"train": [texts]})
    spec = replace(DENSE, lanes=1, rows=60, bad_records=1)
    rows, _ = lanes(spec, corpus).step(0, {}, 0)  # type: ignore[typeddict-item]
    assert rows.counts["records/c4"] >= 10
    assert rows.counts["bad_records/c4"] >= 2
    assert rows.counts["empty_records/c4"] >= 2
    with pytest.raises(UserError, match=r"record 3 .* not UTF-8.*1 bad records and 0 are allowed") as error:
        lanes(replace(spec, bad_records=0), corpus).step(0, {}, 5)  # type: ignore[typeddict-item]
    assert error.value.__notes__ == ["while lane 0 was filled for step 5"]


def test_a_corpus_of_nothing_is_refused() -> None:
    corpus = FakeCorpus("text", {"train": [["\u200b", "\u200b"]]})
    with pytest.raises(UserError, match="no example in a whole epoch"):
        lanes(DENSE, corpus).step(0, {}, 0)  # type: ignore[typeddict-item]


@pytest.mark.parametrize("place", [[0, 999, 0], [0, 0, 100_000]])
def test_cursors_of_other_data_are_refused(place: list[int]) -> None:
    with pytest.raises(UserError, match="cursor belongs to other data"):
        lanes(DENSE).step(0, {"draws": 0, "tasks": {"c4": place}}, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 3}, "batch.lanes=3 must divide"),
        ({"sources": ()}, "mixture is empty"),
        ({"sources": (Source("a", 0.0), Source("b", 0.0))}, "sum to zero"),
        ({"sources": (Source("a", -1.0), Source("b", 2.0))}, "not be negative"),
        ({"sources": (Source("a"), Source("a"))}, "must differ"),
    ],
)
def test_bad_specifications_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(DENSE, **change)  # type: ignore[arg-type]


def test_sources_that_fit_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="No task 'what'"):
        Lanes(replace(DENSE, sources=(Source("what"),)), {}, vocabulary())
    with pytest.raises(UserError, match="no corpus"):
        lanes(replace(DENSE, sources=(Source("c4", objective=ObjectiveSpec()),)))
    with pytest.raises(UserError, match="names a vocabulary"):
        Lanes(replace(DENSE, sources=(Source("small"),)), TASKS)
    with pytest.raises(ValueError, match="lane 8 is outside"):
        lanes(DENSE).step(8, {}, 0)  # type: ignore[typeddict-item]
