"""Mixing rates against the study's own table and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from data import mixing
from data.errors import UserError
from data.lanes import Lanes, LanesSpec, Source
from data.tasks.mixture import Mixture
from tests.data.fakes import FakeTask, vocabulary

TABLE = {
    "proportional_16": (0.083, 0.358, 0.141, 0.083, 0.083, 0.083, 0.083, 0.083),
    "proportional_17": (0.095, 0.330, 0.129, 0.095, 0.064, 0.095, 0.095, 0.095),
    "proportional_18": (0.114, 0.311, 0.080, 0.114, 0.038, 0.114, 0.114, 0.114),
    "proportional_19": (0.145, 0.263, 0.051, 0.080, 0.024, 0.145, 0.145, 0.145),
    "proportional_20": (0.199, 0.180, 0.035, 0.055, 0.017, 0.199, 0.199, 0.116),
    "proportional_21": (0.249, 0.113, 0.022, 0.034, 0.010, 0.249, 0.249, 0.073),
    "temperature_2": (0.163, 0.234, 0.094, 0.060, 0.033, 0.163, 0.163, 0.088),
    "temperature_4": (0.102, 0.310, 0.201, 0.062, 0.046, 0.102, 0.102, 0.075),
    "temperature_8": (0.071, 0.338, 0.287, 0.055, 0.048, 0.071, 0.071, 0.061),
}


@pytest.mark.parametrize("name", TABLE)
def test_shares_of_the_study(name: str) -> None:
    shares = mixing.shares(mixing.rates(mixing.STUDY_SIZES, mixing.preset(name)))
    assert tuple(round(share, 3) for share in shares.values()) == TABLE[name]
    assert list(shares) == ["C4", "GLUE", "SGLUE", "CNNDM", "SQuAD", "EnDe", "EnFr", "EnRo"]


def test_equal_mixing_counts_tasks() -> None:
    rates = mixing.rates(mixing.STUDY_SIZES, mixing.preset("equal"))
    assert len(rates) == 23
    assert all(rate == pytest.approx(1 / 23) for rate in rates.values())


def test_capped_sum_of_the_default_limit() -> None:
    rule, scale = mixing.preset("proportional_19"), mixing.scales(mixing.STUDY_SIZES)
    weights = [rule.weight(name, size, scale[name]) for name, size in mixing.STUDY_SIZES.items()]
    assert sum(weights) == 3_604_148


@pytest.mark.parametrize(
    ("model", "share"), [("small", 0.147), ("base", 0.389), ("large", 0.678), ("3B", 0.891), ("11B", 0.970)]
)
def test_final_models_give_the_unsupervised_task_its_own_size(model: str, share: float) -> None:
    rates = mixing.rates(mixing.STUDY_SIZES, mixing.preset(f"final_{model}"))
    # The study prints sizes rounded to three digits, so the last digit of a share may differ by one.
    assert rates[mixing.UNSUPERVISED] == pytest.approx(share, abs=6e-4)


def test_limit_comes_before_temperature() -> None:
    rates = mixing.rates({"a": 100.0, "b": 16.0}, mixing.Rule(limit=64, temperature=2))
    assert rates == {"a": pytest.approx(8 / 12), "b": pytest.approx(4 / 12)}


def test_twins_count_half_only_together() -> None:
    rule = mixing.Rule(limit=1000)
    both = mixing.rates({"glue_rte": 10.0, "superglue_rte": 10.0, "squad": 10.0}, rule)
    assert both == {"glue_rte": 0.25, "superglue_rte": 0.25, "squad": 0.5}
    assert mixing.rates({"glue_rte": 10.0, "squad": 10.0}, rule) == {"glue_rte": 0.5, "squad": 0.5}


def test_nested_mixture_takes_the_rules_weights() -> None:
    sizes = {"a": 30.0, "b": 10.0, "c": 5.0}
    inner = Mixture("inner", (("a", None), ("b", None)))
    outer = Mixture("outer", ((inner, 3.0), ("c", 1.0)))
    rule = mixing.Rule(limit=20)
    rates = outer.rates(lambda name: rule.weight(name, sizes[name]))
    assert rates == {"a": pytest.approx(0.75 * 2 / 3), "b": pytest.approx(0.75 / 3), "c": pytest.approx(0.25)}


def test_bad_mixtures_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="proportional_19"):
        mixing.preset("proportional19")
    with pytest.raises(UserError, match="sum to zero"):
        mixing.normalized({"a": 0.0})
    with pytest.raises(UserError, match="'b' is -1"):
        mixing.normalized({"a": 2.0, "b": -1.0})
    with pytest.raises(UserError, match="no bounded size"):
        mixing.rates({"unsupervised": math.inf, "a": 3.0}, mixing.Rule())
    with pytest.raises(UserError, match="limit of 0"):
        mixing.Rule(limit=0)
    with pytest.raises(UserError, match="temperature 0"):
        mixing.Rule(temperature=0)


def test_lanes_draw_tasks_by_their_rates() -> None:
    rates = {"unsupervised": 0.5, "a": 0.3, "b": 0.15, "c": 0.05}
    sources = tuple(Source(name, rate) for name, rate in rates.items())
    spec = LanesSpec(sources, lanes=4, rows=8, seed=3, inputs_length=64)
    lanes = Lanes(spec, {name: FakeTask(40) for name in rates}, vocabulary())
    counts = np.zeros(4)
    for lane in range(4):
        counts += np.bincount([lanes.draw(lane, draw) for draw in range(5000)], minlength=4)
    expected = np.array(list(rates.values())) * counts.sum()
    chi_square = float((((counts - expected) ** 2) / expected).sum())
    # 99.9 % point of chi-square with three degrees of freedom.
    assert chi_square < 16.27
    assert [lanes.draw(1, draw) for draw in range(50)] != [lanes.draw(2, draw) for draw in range(50)]
