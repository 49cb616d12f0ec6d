"""Slow ranks and nodes, and replicas that differ, are named."""

import pytest

from orchestrator.faults import odd_ones_out, stragglers

NODES = {rank: f"host-{rank // 4}" for rank in range(16)}


def times(slow: dict[int, float]) -> dict[int, list[float]]:
    return {rank: [0.1 * slow.get(rank, 1.0) * jitter for jitter in (0.98, 1.0, 1.05)] for rank in range(16)}


def test_even_ranks_have_no_straggler() -> None:
    assert stragglers(times({}), NODES) == []
    assert stragglers(times({3: 1.4}), NODES) == []


def test_slow_ranks_are_named_slowest_first() -> None:
    found = stragglers(times({3: 2.0, 9: 3.0}), NODES)
    assert [(s.rank, s.node) for s in found] == [(9, "host-2"), (3, "host-0")]
    assert found[0].ratio == pytest.approx(3.0)
    assert str(found[1]) == "rank 3 on host-0 takes 2.00 times the median step time"


def test_a_slow_node_is_named_once() -> None:
    found = stragglers(times({4: 2.0, 5: 2.0, 6: 2.5, 1: 1.8}), NODES)
    assert [(s.node, s.rank) for s in found] == [("host-1", None), ("host-0", 1)]
    assert "node host-1 takes 2.00 times" in str(found[0])


def test_one_slow_step_is_no_straggler() -> None:
    seconds = times({})
    seconds[5][0] = 10.0
    assert stragglers(seconds, NODES) == []


def test_of_two_ranks_the_slower_is_found_and_one_has_no_peer() -> None:
    assert [s.rank for s in stragglers({0: [0.1], 1: [0.2]}, NODES)] == [1]
    assert stragglers({0: [0.1]}, NODES) == []
    assert stragglers({0: [0.1], 1: []}, NODES) == []
    assert stragglers({0: [0.0], 1: [0.0]}, NODES) == []


@pytest.mark.parametrize(
    ("digests", "odd"),
    [({}, []), ({0: "x"}, []), ({0: "x", 1: "x"}, []), ({0: "x", 1: "y", 2: "x"}, [1]), ({0: "x", 1: "y"}, [0, 1]),
     ({0: "x", 1: "y", 2: "z"}, [0, 1, 2]), ({0: "x", 1: "x", 2: "y", 3: "y"}, [0, 1, 2, 3])],
)  # fmt: skip
def test_the_replica_that_differs(digests: dict[int, str], odd: list[int]) -> None:
    assert odd_ones_out(digests) == odd
