"""A fault points to the node that has it, never to the one that tells of a peer it lost."""

from typing import Any

import pytest

from orchestrator.faults import blamed, by_node, silent, suspect_nodes


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "time": 0.0, **fields}


@pytest.mark.parametrize(
    ("told", "points_to"),
    [
        (event("worker_failed", rank=1, node="b", error="Traceback\n  ...\nValueError: bad row"), ("b", "worker")),
        (event("worker_failed", rank=1, node="b", error="RuntimeError: CUDA error: an ECC error"), ("b", "worker")),
        (event("worker_failed", rank=0, node="a", error="RuntimeError: Connection reset by peer [10.0.0.2]"), None),
        (event("worker_failed", rank=0, node="a", error="RuntimeError: Timed out waiting 60000ms for send"), None),
        (event("worker_failed", rank=0, node="a", error="torch.distributed.DistBackendError: NCCL communicator"), None),
        (event("worker_failed", rank=0, node="a", error="x.watch.RollBack: steps 3 to 6 gave a non-finite loss"), None),
        (event("worker_failed", rank=0, node="a", error="x.corruption.Corruption: silent corruption: rank 1"), None),
        (event("worker_failed", rank=0, node="a", error=""), ("a", "worker")),
        (event("fault", fault="hang", rank=1, node="b", waiting=False), ("b", "hang")),
        (event("fault", fault="hang", rank=0, node="a", waiting=True), None),
        (event("fault", fault="corruption", rank=1, node="b"), ("b", "corruption")),
        (event("fault", fault="storage"), None),
        (event("straggler", node="b", rank=None, ratio=2.0), ("b", "straggler")),
        (event("checkpoint", node="b", step=3), None),
    ],
)
def test_whom_an_event_points_to(told: dict[str, Any], points_to: tuple[str, str] | None) -> None:
    assert blamed(told) == points_to


def test_faults_are_counted_by_node_and_the_worst_comes_first() -> None:
    told = [event("straggler", node=node, rank=0, ratio=2.0) for node in "abbc"]
    told += [event("worker_failed", rank=0, node="b", error="KeyError: 3")]
    told += [event("worker_failed", rank=0, node="a", error="RuntimeError: Connection reset by peer")] * 9
    counts = by_node(told)
    assert counts == {"b": {"straggler": 2, "worker": 1}, "a": {"straggler": 1}, "c": {"straggler": 1}}
    assert list(counts) == ["b", "a", "c"]
    assert suspect_nodes(counts) == ["b"]
    assert suspect_nodes(counts, limit=1) == ["b", "a", "c"]


def test_who_ended_without_a_word() -> None:
    nodes = ["a", "a", "b", "b"]
    assert silent(nodes, {0, 1, 2}) == ("b", (3,))
    assert silent(nodes, {0, 1}) == ("b", (2, 3))
    assert silent(nodes, {0, 2}) is None
    assert silent(nodes, set()) is None
    assert silent(nodes, {0, 1, 2, 3}) is None
