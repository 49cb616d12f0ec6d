"""The feed: one chunk ahead, rows in lane order whichever reader made them, cursors of what was consumed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.packing import Rows
from orchestrator import readers
from orchestrator.readers import Cursors, Feed, StepRows, assign_lanes, lanes_of_rank


def rows_of(lane: int, step: int, each: int = 2) -> Rows:
    """Rows that say which lane and step they are."""
    return Rows(None, np.array([[lane, step, row] for row in range(each)], np.uint16))


class Recorded:
    """A source that notes when chunks are asked for and taken."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int, int]] = []

    def request(self, cursors: Cursors, first_step: int, steps: int) -> Any:
        self.log.append(("request", first_step, steps))
        assert all(cursor["draws"] == first_step - 1 for cursor in cursors.values())
        return cursors, first_step, steps

    def receive(self, pending: Any) -> list[StepRows]:
        cursors, first_step, steps = pending
        self.log.append(("receive", first_step, steps))
        return [
            StepRows(
                Rows.concatenate([rows_of(lane, step) for lane in sorted(cursors)]),
                {lane: {**cursors[lane], "draws": step} for lane in cursors},
            )
            for step in range(first_step, first_step + steps)
        ]


def cursors_at(step: int, lanes: range) -> Cursors:
    return {lane: {"draws": step, "tasks": {}} for lane in lanes}


@given(st.integers(1, 20), st.integers(0, 30), st.integers(1, 7))
def test_every_step_comes_once_and_one_chunk_is_always_on_its_way(first: int, more: int, ahead: int) -> None:
    source, last = Recorded(), first + more
    feed = Feed(source, cursors_at(first - 1, range(3)), first, last, ahead)
    taken = []
    for step, rows in feed:
        asked = max(start + steps - 1 for kind, start, steps in source.log if kind == "request")
        assert asked >= min(last, step + 1) or step == last
        assert rows.rows.targets[:, 1].tolist() == [step] * 6
        assert all(cursor["draws"] == step for cursor in rows.cursors.values())
        taken.append(step)
    assert taken == list(range(first, last + 1))


def test_a_finished_run_asks_for_nothing() -> None:
    source = Recorded()
    assert list(Feed(source, cursors_at(5, range(2)), 6, 5, 4)) == []
    assert source.log == []


class FakeReader:
    """Stands for a reader actor: `read.remote` answers at once."""

    def __init__(self) -> None:
        self.read = self

    def remote(self, cursors: Cursors, first_step: int, steps: int) -> list[StepRows]:
        return Recorded().receive((cursors, first_step, steps))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_number_of_readers_changes_nothing(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers.ray, "get", lambda references, timeout: references)
    source = readers.ActorSource({n: FakeReader() for n in range(count)}, assign_lanes(6, count), 1.0)
    chunk = source.receive(source.request(cursors_at(0, range(6)), 1, 2))
    for step, part in enumerate(chunk, start=1):
        assert part.rows.targets.tolist() == Rows.concatenate([rows_of(n, step) for n in range(6)]).targets.tolist()
        assert sorted(part.cursors) == list(range(6))


@given(st.integers(1, 40), st.integers(1, 12))
def test_ranks_share_out_all_lanes(lanes: int, world: int) -> None:
    dealt = [lane for rank in range(world) for lane in lanes_of_rank(lanes, rank, world)]
    assert sorted(dealt) == list(range(lanes))
