"""Non-finite steps are skipped, then rolled back, then stop the run; spikes are told from noise."""

import math

import numpy as np
import pytest
import scipy.stats

from data.errors import UserError
from orchestrator.faults import NonFinitePolicy, NumbersBroken, SpikeDetector, Window, stepped_over


def drive(policy: NonFinitePolicy, bad: set[int], steps: range) -> tuple[list[str], NonFinitePolicy]:
    kinds = []
    for step in steps:
        policy, action = policy.observe(step, step not in bad, 0)
        kinds.append(action.kind)
    return kinds, policy


def test_single_bad_steps_are_skipped_and_a_good_one_starts_anew() -> None:
    kinds, policy = drive(NonFinitePolicy(skips=2), {2, 3, 5, 6}, range(1, 8))
    assert kinds == ["take", "skip", "skip", "take", "skip", "skip", "take"]
    assert (policy.run, policy.skipped) == (0, 4)


def test_one_more_than_allowed_rolls_back_over_the_whole_window() -> None:
    policy = NonFinitePolicy(skips=2, rollbacks=1)
    _, policy = drive(policy, {4, 5}, range(1, 6))
    policy, action = policy.observe(6, False, rolled_back=0)
    assert (action.kind, action.window) == ("roll_back", Window(4, 6))
    assert policy.run == 0
    assert [step for step in range(1, 9) if stepped_over(step, [Window(4, 6), Window(8, 8)])] == [4, 5, 6, 8]


def test_a_step_that_spoiled_parameters_is_rolled_back_at_once() -> None:
    policy, action = NonFinitePolicy(skips=3, rollbacks=1).observe(5, False, 0, spoiled=True)
    assert (action.kind, action.window, policy.run) == ("roll_back", Window(5, 5), 0)
    with pytest.raises(NumbersBroken):
        policy.observe(7, False, 1, spoiled=True)


def test_rollbacks_have_a_limit_that_explains_itself() -> None:
    policy = NonFinitePolicy(skips=0, rollbacks=2)
    for count in (0, 1):
        assert policy.observe(7, False, rolled_back=count)[1].kind == "roll_back"
    with pytest.raises(NumbersBroken, match=r"steps 7 to 7 gave a non-finite loss .* after 2 rollbacks"):
        policy.observe(7, False, rolled_back=2)


def test_a_resumed_run_decides_as_the_undisturbed_one() -> None:
    bad = {3, 4, 5, 9, 10}
    undisturbed, _ = drive(NonFinitePolicy(skips=3), bad, range(1, 13))
    for cut in range(1, 12):
        first, policy = drive(NonFinitePolicy(skips=3), bad, range(1, cut + 1))
        resumed = NonFinitePolicy(skips=3).restored(policy.state())
        assert first + drive(resumed, bad, range(cut + 1, 13))[0] == undisturbed


def test_the_score_is_the_robust_z_score_of_scipy() -> None:
    losses = np.random.default_rng(0).normal(3.0, 0.1, 300)
    detector = SpikeDetector(span=128, warm=32)
    for i, loss in enumerate(losses):
        score = detector.observe(float(loss))
        seen = losses[max(0, i - 128) : i]
        if i < 32:
            assert score is None
            continue
        spread = scipy.stats.median_abs_deviation(seen, scale="normal")
        # The library takes 1/0.67449 where the detector takes 1.4826.
        assert score == pytest.approx((loss - np.median(seen)) / spread, rel=1e-4)


def test_spikes_are_found_and_neither_noise_nor_falls_are() -> None:
    generator = np.random.default_rng(1)
    curve = 2.0 + 4.0 * np.exp(-np.arange(2000) / 500) + generator.normal(0, 0.02, 2000)
    spikes = {700, 701, 702, 1500}
    for step in spikes:
        curve[step] += 1.0
    curve[1000] -= 0.5
    detector = SpikeDetector()
    found = {step for step, loss in enumerate(curve) if detector.is_spike(detector.observe(float(loss)))}
    assert found == spikes


def test_non_finite_losses_score_without_end_and_are_not_remembered() -> None:
    detector = SpikeDetector(span=8, warm=4)
    for _ in range(8):
        detector.observe(1.0)
    for bad in (math.nan, math.inf, -math.inf):
        assert detector.is_spike(detector.observe(bad))
    assert not detector.is_spike(detector.observe(1.0))


def test_equal_losses_make_no_spike_of_rounding() -> None:
    detector = SpikeDetector(span=8, warm=4)
    for _ in range(8):
        detector.observe(1.0)
    assert not detector.is_spike(detector.observe(1.0 + 1e-7))
    assert detector.is_spike(detector.observe(1.1))


def test_a_detector_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(UserError, match="spike detector"):
        SpikeDetector(span=8, warm=9)
