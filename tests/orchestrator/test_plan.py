"""The command `python -m orchestrator.plan`."""

import json
import sys
from typing import Any

import pytest

from orchestrator.plan import main

KEYS = {
    "parameters", "flops_per_step", "memory_per_gpu_bytes", "fits", "nearest", "communication_bytes_per_step", "tokens",
    "steps", "hours", "cost", "checkpoint_bytes", "lost_hours",
}  # fmt: skip


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err


def test_json_says_everything(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, "--price", "2", "model=small", "steps=1000")
    assert found.keys() >= KEYS
    parts = dict(found["memory_per_gpu_bytes"])
    assert parts.pop("total") == sum(parts.values())
    assert found["parameters"] == 60_506_624
    assert (found["fits"], found["nearest"], found["steps"]) == (True, None, 1000)
    assert found["cost"] == pytest.approx(2 * found["hours"])


def test_11b_fits_one_gpu_of_80_gb_with_two_tricks(capsys: pytest.CaptureFixture[str]) -> None:
    tricks = ["optimizer.in_backward=true", "parallel.recompute=block"]
    assert plan(capsys, "model=11B", "batch.rows=32", *tricks)["fits"]
    without = plan(capsys, "model=11B", "batch.rows=32")
    assert not without["fits"]
    changes = [f"{key}={value}" for key, value in without["nearest"].items() if key != "total_bytes"]
    advised = plan(capsys, "model=11B", "batch.rows=32", *changes)
    assert advised["fits"]
    assert advised["memory_per_gpu_bytes"]["total"] == without["nearest"]["total_bytes"]


def test_a_named_cluster_is_used_whole_unless_workers_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(capsys, "--nodes", "2")["workers"] == 16
    assert plan(capsys, "--nodes", "2", "--gpus-per-node", "4", "parallel.tensor=2")["workers"] == 8
    assert plan(capsys, "--nodes", "2", "workers=4")["workers"] == 4
    assert "workers=16" in refusal(capsys, "--nodes", "2", "workers=32")


def test_a_degree_that_does_not_divide_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(capsys, "--gpus-per-node", "8", "parallel.tensor=8")
    assert "heads is 12" in error
    assert "4" in error


def test_what_cannot_fit_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, "--gpu", "8GB", "--gpus-per-node", "1", "model=11B")
    assert (found["fits"], found["nearest"]) == (False, None)
    assert main(["--gpu", "8GB", "--gpus-per-node", "1", "model=11B"]) == 0
    assert "no layout on these GPUs fits" in capsys.readouterr().out


@pytest.mark.parametrize("architecture", ["shared", "language_model", "prefix_lm"])
def test_every_architecture(capsys: pytest.CaptureFixture[str], architecture: str) -> None:
    found = plan(capsys, "--nodes", "1", f"options.architecture={architecture}", "objective.name=prefix_lm")
    assert found["memory_per_gpu_bytes"]["total"] > 4 * found["parameters"] / 8


def test_the_page_names_the_nearest_layout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model=3B", "--price", "2"]) == 0
    page = capsys.readouterr().out
    assert "does not fit" in page
    assert "nearest that fits" in page
    assert "batch.accumulate=" in page


def test_a_mixture_needs_no_data_and_a_corpus_need_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    same = ["--config", "finetune", "objective.target_length=512", "corpus=/nowhere/at/all"]
    packed, dense = (plan(capsys, *same, *more)["memory_per_gpu_bytes"] for more in (["mixture=proportional_19"], []))
    # Packed rows have masks, and with them biases, of their own.
    assert packed["activations"] > dense["activations"] + 2 * 128 * 12 * 512 * 512


def test_ray_is_not_started(capsys: pytest.CaptureFixture[str]) -> None:
    plan(capsys)
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
