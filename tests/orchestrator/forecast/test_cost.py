"""Time, money and failures against arithmetic done by hand."""

import math
from typing import Any

import pytest

from data.errors import UserError
from model.config import sized
from orchestrator.forecast.cost import cost, gpu
from orchestrator.forecast.failures import failures
from orchestrator.forecast.scenario import Scenario
from orchestrator.parallel.layout import Layout


def scenario(**changes: Any) -> Scenario:
    plain = {"rows": 128, "lanes": 32, "accumulate": 1, "input_length": 512, "target_length": 114, "world": 1}
    return Scenario(model=sized("v1.1-base"), layout=Layout(), **(plain | changes))  # type: ignore[arg-type]


def test_time_and_price_follow_from_the_operations_of_a_row() -> None:
    found = cost(scenario(), 1000, gpu("A100"), 0.5, 2.0)
    assert found.flops_per_step == pytest.approx(128 * 425.9e9, rel=0.001)
    assert found.step_seconds == pytest.approx(128 * 425.9e9 / (312e12 * 0.5), rel=0.001)
    assert found.hours == pytest.approx(1000 * 128 * 425.9e9 / (312e12 * 0.5) / 3600, rel=0.001)
    assert found.price == pytest.approx(2.0 * (found.hours or 0))
    assert found.tokens == 1000 * 128 * (512 + 114)


def test_more_devices_take_less_time_for_the_same_price() -> None:
    one, eight = (cost(scenario(world=n), 1000, gpu("H100"), 0.4, 2.0) for n in (1, 8))
    assert one.hours == pytest.approx(8 * (eight.hours or 0))
    assert one.price == pytest.approx(eight.price)


def test_a_device_known_by_its_memory_alone_has_no_hours() -> None:
    found = cost(scenario(), 1000, gpu("80e9"), 0.4, 2.0)
    assert (found.hours, found.price, found.step_seconds) == (None, None, None)


@pytest.mark.parametrize(("text", "memory"), [("80e9", 80e9), ("80GB", 80e9), ("80GiB", 80 * 2**30), ("h100", 84.9e9)])
def test_devices_by_name_and_by_memory(text: str, memory: float) -> None:
    assert gpu(text).memory == pytest.approx(memory, rel=0.001)


@pytest.mark.parametrize("text", ["H1000", "-5", "0", "1e6", "..", ""])
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--gpu"):
        gpu(text)


@pytest.mark.parametrize(("mfu", "price", "flag"), [(0.0, 1.0, "--mfu"), (1.5, 1.0, "--mfu"), (0.4, -1.0, "--price")])
def test_impossible_utilization_and_price_are_refused(mfu: float, price: float, flag: str) -> None:
    with pytest.raises(UserError, match=flag):
        cost(scenario(), 10, gpu("H100"), mfu, price)


@pytest.mark.parametrize(("devices", "days"), [(64, 33.0), (256, 8.25), (1024, 2.06)])
def test_failures_come_at_the_published_rate(devices: int, days: float) -> None:
    found = failures(24.0, devices, 1.0, 5000, None, 1e9)
    assert found.hours_between / 24 == pytest.approx(days, rel=0.01)
    assert found.expected == pytest.approx(1 / days, rel=0.01)


def test_the_best_interval_loses_least() -> None:
    def lost(interval: float) -> float:
        # A restart costs the same at any interval.
        return failures(1000.0, 1024, 1.0, round(interval), None, 45e9).lost_hours

    best = failures(1000.0, 1024, 1.0, 5000, None, 45e9).best_interval_hours * 3600
    assert best == pytest.approx(math.sqrt(2 * 45 * 16384 * 54 * 24 / 419 / 1024 * 3600), rel=1e-6)
    assert lost(best) < min(lost(best / 1.5), lost(best * 1.5))


def test_ephemeral_checkpoints_shorten_the_interval() -> None:
    found = failures(1000.0, 256, 10.0, 5000, 1800, 1e9)
    assert found.interval_hours == 0.5
    assert found.lost_hours < failures(1000.0, 256, 10.0, 5000, None, 1e9).lost_hours
