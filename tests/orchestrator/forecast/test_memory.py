"""The peak of large models against published arithmetic, and how layouts move it."""

from dataclasses import replace
from typing import Any

import pytest

from model.config import T5Config, sized
from orchestrator.forecast.cost import gpu
from orchestrator.forecast.memory import moments, peak
from orchestrator.forecast.nearest import nearest
from orchestrator.forecast.scenario import Scenario
from orchestrator.parallel.layout import Layout

GB = 1e9
XL, XXL = sized("v1.1-xl"), sized("v1.1-xxl")


def scenario(model: T5Config, rows: int = 1, **changes: Any) -> Scenario:
    layout = Layout(precision="bfloat16", **{k: changes.pop(k) for k in ("tensor", "recompute") if k in changes})
    plain = {"world": 1, "lanes": rows, "accumulate": 1, "input_length": 512, "target_length": 114}
    return Scenario(model=model, layout=layout, rows=rows, **(plain | changes))  # type: ignore[arg-type]


def static(made: Scenario) -> float:
    """GB of weights, gradients and state when all exist, without scratch values."""
    update = moments(made)[-1]
    state = moments(made)[0].optimizer
    return (update.weights + update.gradients + state) / GB


@pytest.mark.parametrize(
    ("model", "optimizer", "expected"),
    [(XL, "adafactor", 22.8), (XXL, "adafactor", 89.1), (XL, "adamw", 45.6), (XXL, "adamw", 178.0)],
)
def test_static_memory(model: T5Config, optimizer: str, expected: float) -> None:
    assert static(scenario(model, optimizer=optimizer)) == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize(("model", "weights"), [(XL, 11.4), (XXL, 44.5)])
def test_updating_in_backward_leaves_one_block_of_gradients(model: T5Config, weights: float) -> None:
    found = moments(scenario(model, in_backward=True, recompute="block"))
    assert found[0].weights / GB == pytest.approx(weights, rel=0.005)
    block = 4 * model.block_parameters(cross_attention=True)
    assert max(moment.gradients for moment in found[:-1]) == block


@pytest.mark.parametrize(("model", "megabytes"), [("small", 87), ("base", 243), ("large", 657), ("xl", 1250)])
def test_activations_of_a_row_lie_near_the_published_ones(model: str, megabytes: float) -> None:
    """Fused kernels keep less than single operations do, never more: half as much again is the most."""
    made = scenario(sized(f"v1.1-{model}"), rows=8)
    row = moments(made)[0].activations / 8 / 1e6
    assert megabytes * 0.95 < row < megabytes * 1.6


@pytest.mark.parametrize("name", ["11B", "v1.1-xxl"])
def test_11b_trains_on_one_gpu_of_80_gb_with_updates_in_backward_and_recomputed_blocks(name: str) -> None:
    usable = gpu("H100").usable
    assert peak(scenario(sized(name), 32, in_backward=True, recompute="block")).total <= usable
    assert peak(scenario(sized(name), 32)).total > usable
    assert peak(scenario(sized(name), 32, recompute="block")).total > usable


def test_3b_trains_on_one_gpu_of_80_gb_without_tricks() -> None:
    assert peak(scenario(sized("3B"), 24)).total <= gpu("H100").usable
    assert peak(scenario(XL, 24)).total <= gpu("H100").usable


def test_sharding_divides_what_lasts_and_leaves_activations_of_a_row() -> None:
    one, eight = scenario(XL, 64), scenario(XL, 64, world=8)
    assert peak(eight).weights == pytest.approx(peak(one).weights / 8, rel=0.001)
    assert moments(eight)[0].activations == pytest.approx(moments(one)[0].activations / 8, rel=0.01)


def test_micro_batches_divide_activations_and_keep_gradients() -> None:
    once, four = moments(scenario(XL, 64)), moments(scenario(XL, 64, accumulate=4))
    assert four[0].activations == pytest.approx(once[0].activations / 4, rel=0.02)
    assert (once[0].gradients, four[0].gradients) == (0, once[-1].gradients)


class TestNearest:
    def test_nothing_is_changed_in_what_fits(self) -> None:
        wanted = scenario(XL, 8)
        found = nearest(wanted, gpu("H100").usable, 1)
        assert found is not None
        assert found.overrides(wanted) == {}

    def test_more_micro_batches_before_anything_else(self) -> None:
        wanted = scenario(XL, 128)
        found = nearest(wanted, gpu("H100").usable, 1)
        assert found is not None
        assert list(found.overrides(wanted)) == ["batch.accumulate"]
        assert found.peak.total <= gpu("H100").usable

    def test_11b_on_one_gpu_updates_in_backward(self) -> None:
        wanted = scenario(XXL, 32)
        found = nearest(wanted, gpu("H100").usable, 1)
        assert found is not None
        assert found.overrides(wanted)["optimizer.in_backward"] is True

    def test_more_workers_where_one_gpu_cannot_hold_the_weights(self) -> None:
        wanted = scenario(XXL, 32)
        found = nearest(wanted, gpu("A10G").usable, None)
        assert found is not None
        assert found.scenario.world > 1
        assert nearest(wanted, gpu("A10G").usable, 1) is None

    def test_what_it_finds_is_allowed(self) -> None:
        wanted = replace(scenario(sized("base", architecture="shared"), 512), optimizer="adamw")
        found = nearest(wanted, gpu("A10G").usable, 2)
        assert found is not None
        found.scenario.check()
        assert not found.scenario.in_backward

    def test_groups_stay_within_a_node(self) -> None:
        """A batch of one row can be spread by tensor parallelism alone."""
        wanted = scenario(XXL, 1)
        found = nearest(wanted, gpu("A10G").usable, 8, node=8)
        assert found is not None
        assert found.scenario.layout.tensor == found.scenario.world > 2
        assert nearest(wanted, gpu("A10G").usable, 8, node=2) is None
