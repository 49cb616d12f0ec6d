"""When a failed run starts again, how long it waits, and what it says when it does not."""

import random

import pytest

from data.errors import UserError
from orchestrator.faults import Cause, Failure, RestartPolicy


def failures(*steps: int, saved: int = 0, cause: Cause = "worker", message: str = "killed") -> list[Failure]:
    """Failures after these steps, all of them with the same newest checkpoint."""
    return [Failure(cause, step, saved, message) for step in steps]


def test_a_first_failure_is_answered_at_once_and_lack_of_progress_with_growing_pauses() -> None:
    policy = RestartPolicy(same_step=6, pause_seconds=5.0, longest_pause_seconds=15.0)
    waits = [policy.decide(failures(*[7] * count)).wait_seconds for count in range(1, 6)]
    assert waits == [0.0, 5.0, 10.0, 15.0, 15.0]
    assert policy.decide([*failures(7, 7), *failures(7, saved=6)]).wait_seconds == 0.0


def test_the_same_step_again_and_again_stops_with_the_error() -> None:
    decision = RestartPolicy(same_step=3).decide(failures(5, 9, 9, 9, message="CUDA error: bad address"))
    assert not decision.restart
    assert "failed 3 times after step 9" in decision.reason
    assert "every time with this error" in decision.reason
    assert "CUDA error: bad address" in decision.reason


def test_news_of_a_step_may_be_late_by_two() -> None:
    assert not RestartPolicy(same_step=3).decide(failures(9, 7, 8)).restart
    assert RestartPolicy(same_step=3).decide(failures(9, 5, 8)).restart


def test_faults_that_meet_different_steps_are_chance_until_the_budget_is_used_up() -> None:
    policy = RestartPolicy(budget=3, same_step=3)
    assert policy.decide(failures(10, 50, 30)).restart
    decision = policy.decide(failures(10, 50, 30, 90, saved=5))
    assert not decision.restart
    assert "4 failures without a new checkpoint after that of step 5" in decision.reason
    assert "faults.max_failures" in decision.reason


def test_a_fault_behind_the_last_checkpoint_is_no_progress() -> None:
    # Back at the checkpoint of step 4 after having been at that of 9: the run moves backwards.
    backwards = [Failure("worker", 9, saved, "killed") for saved in (9, 9, 4)]
    assert not RestartPolicy(same_step=3, budget=2).decide(backwards).restart
    assert not RestartPolicy(budget=1).decide([Failure("worker", s, s, "killed") for s in (9, 4)]).restart


def test_a_run_that_gets_on_is_never_stopped_for_the_number_of_its_failures() -> None:
    """12 faults a day for two months, a checkpoint every 150 steps, at most one of them lost in between."""
    chance = random.Random(0)
    policy, told, step = RestartPolicy(), [], 0
    for _ in range(12 * 60):
        step += chance.randrange(151, 3000)
        told.append(Failure("worker", step, step - step % 150, "killed", str(chance.randrange(512))))
        decision = policy.decide(told)
        assert decision.restart
        assert decision.wait_seconds == 0.0


def test_a_fault_that_follows_one_node_names_the_node() -> None:
    repeated = [Failure("worker", 9, 9, f"error {i}", "host-3") for i in range(3)]
    assert "every time on node host-3: take that node out" in RestartPolicy().decide(repeated).reason
    mixed = [Failure("worker", 9, 9, f"error {i}", f"host-{i}") for i in range(3)]
    assert "with different errors" in RestartPolicy().decide(mixed).reason
    # One of them named no node, so not every time was on that one.
    assert "node host-3" not in RestartPolicy().decide([*repeated[:2], Failure("worker", 9, 9, "killed")]).reason


def test_no_budget_is_no_restart() -> None:
    assert not RestartPolicy(budget=0).decide(failures(7)).restart


def test_preemptions_cost_nothing_and_hide_nothing() -> None:
    policy = RestartPolicy(budget=1, same_step=2)
    many = failures(*[3] * 50, cause="preemption")
    assert policy.decide(many).restart
    assert policy.decide([*many, Failure("worker", 3, 3, "killed")]).restart
    between = [Failure("worker", 3, 3, "a"), Failure("preemption", 3, 3, "b"), Failure("worker", 3, 3, "a")]
    assert not policy.decide(between).restart


def test_a_policy_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(UserError, match="restart policy"):
        RestartPolicy(budget=-1)
