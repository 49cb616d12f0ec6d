"""When a failed run starts again, how long it waits, and what it says when it does not."""

import pytest

from data.errors import UserError
from orchestrator.faults import Cause, Failure, RestartPolicy


def failures(*steps: int, cause: Cause = "worker", every: float = 60.0, message: str = "killed") -> list[Failure]:
    return [Failure(cause, step, number * every, message) for number, step in enumerate(steps)]


def test_progress_is_answered_at_once_and_its_lack_with_growing_pauses() -> None:
    policy = RestartPolicy(same_step=6, pause_seconds=5.0, longest_pause_seconds=15.0)
    waits = [policy.decide(failures(*[7] * count)).wait_seconds for count in range(1, 6)]
    assert waits == [0.0, 5.0, 10.0, 15.0, 15.0]
    assert policy.decide(failures(7, 7, 8)).wait_seconds == 0.0
    assert policy.decide(failures(7, 8, 9)).restart


def test_the_same_step_again_and_again_stops_with_the_error() -> None:
    decision = RestartPolicy(same_step=3).decide(failures(5, 9, 9, 9, message="CUDA error: bad address"))
    assert not decision.restart
    assert "failed 3 times after step 9" in decision.reason
    assert "every time with this error" in decision.reason
    assert "CUDA error: bad address" in decision.reason


def test_a_fault_behind_the_last_checkpoint_is_no_progress() -> None:
    # Back at step 4 after having been at 9: the run moves backwards.
    assert not RestartPolicy(same_step=3).decide(failures(9, 9, 4)).restart


def test_a_fault_that_follows_one_node_names_the_node() -> None:
    repeated = [Failure("node", 9, float(i), f"error {i}", "host-3") for i in range(3)]
    assert "every time on node host-3: take that node out" in RestartPolicy().decide(repeated).reason
    mixed = [Failure("node", 9, float(i), f"error {i}", f"host-{i}") for i in range(3)]
    assert "with different errors" in RestartPolicy().decide(mixed).reason


def test_the_budget_counts_failures_within_the_window() -> None:
    policy = RestartPolicy(budget=3, window_seconds=200.0)
    assert policy.decide(failures(1, 2, 3)).restart
    decision = policy.decide(failures(1, 2, 3, 4))
    assert not decision.restart
    assert "4 failures" in decision.reason
    assert "faults.max_failures" in decision.reason
    assert policy.decide(failures(1, 2, 3, 4, every=100.0)).restart


def test_preemptions_cost_nothing_and_hide_nothing() -> None:
    policy = RestartPolicy(budget=1, same_step=2)
    many = failures(*[3] * 50, cause="preemption")
    assert policy.decide(many).restart
    assert policy.decide([*many, Failure("worker", 3, 9e9, "killed")]).restart
    between = [Failure("worker", 3, 0.0, "a"), Failure("preemption", 3, 1.0, "b"), Failure("worker", 3, 2.0, "a")]
    assert not policy.decide(between).restart


def test_a_users_mistake_is_not_tried_again() -> None:
    decision = RestartPolicy().decide(failures(0, cause="user", message="corpus x does not exist"))
    assert not decision.restart
    assert decision.reason.startswith("corpus x does not exist")


def test_a_policy_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(UserError, match="restart policy"):
        RestartPolicy(budget=-1)
