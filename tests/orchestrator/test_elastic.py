"""Sizes of an elastic run's groups against a search over all of them, and what is remembered between groups."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config import load
from orchestrator.elastic import Elastic, Sizes


def held(nodes: list[float], each: float, beside: float) -> int:
    """Workers on all nodes, put there one by one."""
    count = 0
    for amount in nodes:
        left = amount - beside
        while left >= each:
            left, count = left - each, count + 1
    return count


@given(
    st.lists(st.integers(0, 16), max_size=6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3),
    st.integers(0, 4), st.integers(0, 5), st.integers(0, 2),
)  # fmt: skip
def test_room_is_the_largest_whole_number_of_groups(
    nodes: list[int], group: int, low: int, each: int, more: int, readers: int, reader: int
) -> None:
    sizes = Sizes(low * group, (low + more) * group, group, float(each), readers, float(reader))
    hosts = [amount for amount in nodes if amount]
    beside = reader * max((len(range(place, readers, len(hosts))) for place in range(len(hosts))), default=readers)
    fits = held([float(amount) for amount in nodes], float(each), float(beside))
    allowed = [workers for workers in range(sizes.low, sizes.high + 1, group) if workers <= fits]
    assert sizes.room([float(amount) for amount in nodes]) == max(allowed, default=sizes.low)


def test_tensor_parallel_groups_stay_whole() -> None:
    config = load(["embedded"], ["workers=2..8", "parallel.tensor=2", "batch.lanes=8", "batch.rows=8"], {})
    sizes = Sizes.of(config, 1, True)
    assert [sizes.room([float(gpus)]) for gpus in range(10)] == [2, 2, 2, 2, 4, 4, 6, 6, 8, 8]
    assert [sizes.smaller(workers) for workers in (8, 6, 4, 2)] == [6, 4, 2, 2]
    assert [sizes.offer([8.0], float(free), 4) for free in range(5)] == [4, 4, 6, 6, 8]


def test_what_others_hold_is_not_offered() -> None:
    sizes = Sizes(1, 8, 1, 2.0, readers=1, reader=1.0)
    nodes = [5.0, 5.0, 5.0]
    assert sizes.room(nodes) == 6
    assert sizes.offer(nodes, free=3.9, running=2) == 3
    assert sizes.offer(nodes, free=0.0, running=2) == 2
    assert sizes.offer([5.0], free=100.0, running=1) == 2


def test_sums_of_small_shares_may_be_rounded() -> None:
    assert Sizes(1, 9, 1, 0.1).room([0.1 + 0.2]) == 3


def test_a_run_loses_nodes_and_takes_new_ones_in() -> None:
    elastic = Elastic(Sizes(1, 3, 1, 2.0, readers=1, reader=1.0))
    assert elastic.resize([0.0, 3.0, 3.0, 3.0]) == 3
    assert elastic.resize([0.0, 3.0]) == 1
    assert elastic.offer([0.0, 3.0, 3.0], free=3.0) == 2
    assert elastic.grow([0.0, 3.0, 3.0]) == 2
    assert elastic.offer([0.0, 3.0, 3.0, 3.0], free=3.0) == 3
    assert elastic.grow([0.0, 3.0, 3.0]) == 2, "the node is gone again"


def test_a_size_that_did_not_start_is_left_alone_until_nodes_change() -> None:
    elastic = Elastic(Sizes(2, 8, 2, 1.0))
    nodes = [4.0, 4.0]
    assert elastic.resize(nodes) == 8
    assert elastic.shrink(nodes) == 6
    assert elastic.offer(nodes, free=2.0) == 6
    assert elastic.resize(nodes) == 6
    assert elastic.shrink(nodes) == 4
    assert elastic.shrink(nodes) == 2
    assert elastic.shrink(nodes) == 2
    assert elastic.offer([4.0, 4.0, 4.0], free=10.0) == 8
    assert elastic.grow([4.0, 4.0, 4.0]) == 8


def test_what_started_after_a_stale_look_follows_the_nodes() -> None:
    elastic = Elastic(Sizes(1, 3, 1, 1.0))
    assert elastic.resize([1.0, 1.0, 1.0]) == 3
    assert elastic.shrink([1.0]) == 1, "the nodes that were gone are no longer counted"
