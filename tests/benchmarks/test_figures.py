"""The other benchmarks, at toy size: their keys are there and their figures positive."""

from __future__ import annotations

import argparse
import json
import random
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch

from benchmarks import checkpoint, common, goodput, train_step
from model.config import sized
from orchestrator.config import Config

TOY = sized("v1.1-tiny", vocab_rows=256)


def test_checkpoint_costs_and_rates(tmp_path: Path) -> None:
    found = checkpoint.measure(TOY, tmp_path, saves=1, rounds=1, rows=1, length=8)
    for name in ("save", "load", "disk_write", "disk_read"):
        assert found[f"{name}_bytes_per_second"] > 0
    assert found["step_seconds"] > 0
    assert found["still_seconds"] > 0
    assert 0 <= found["share_at_one_a_minute"] < 1
    assert found["bytes"] > 4 * TOY.parameters()
    assert "disk write" in checkpoint.table({"sizes": {"toy": found}, "recovery": None})


def test_goodput_falls_with_size_and_has_a_best_interval() -> None:
    assumed = goodput.Assumptions()
    hours = next(iter(goodput.RATES.values()))
    shares = [goodput.simulate(gpus, hours, 900.0, 30, 2, assumed)["goodput"] for gpus in (64, 4096)]
    assert 0.9 < shares[1] < shares[0] < 1
    often, seldom = (goodput.simulate(1024, hours, interval, 30, 2, assumed)["goodput"] for interval in (60.0, 10800.0))
    assert seldom < goodput.simulate(1024, hours, 900.0, 30, 2, assumed)["goodput"]
    assert often < 1 - assumed.stall / (60.0 + assumed.stall) + 1e-3


@pytest.mark.parametrize("rate", goodput.RATES)
def test_the_default_interval_reaches_the_aim_at_1024_gpus_at_every_published_rate(rate: str) -> None:
    default = float(Config().checkpoint.ephemeral_seconds or 0)
    found = goodput.simulate(1024, goodput.RATES[rate], default, 60, 5, goodput.Assumptions())
    assert found["goodput"] > goodput.AIM
    assert found["lowest"] > goodput.AIM - 0.01


@pytest.mark.parametrize("rate", goodput.RATES)
def test_no_run_on_4096_gpus_is_ended_for_the_number_of_its_faults(rate: str) -> None:
    default = float(Config().checkpoint.ephemeral_seconds or 0)
    found = goodput.simulate(4096, goodput.RATES[rate], default, 60, 5, goodput.Assumptions())
    assert found["faults_a_day"] > 1.5
    assert found["stops"] == 0


def test_goodput_without_faults_loses_the_start_and_the_stalls_alone() -> None:
    assumed = goodput.Assumptions()
    run = goodput.Run(64, 1e15, 100.0, assumed, random.Random(0))
    run.simulate(86400.0)
    share = goodput.summarize(run.events).goodput
    assert share == pytest.approx(1 - (assumed.start + assumed.load) / 86400 - assumed.stall / 100, abs=1e-3)


def test_goodput_picture_is_a_picture() -> None:
    result = {"goodput": {"rate": {"64": {"60": {"goodput": 0.99}, "600": {"goodput": 0.97}}}}}
    tree = ElementTree.fromstring(goodput.picture(result))
    assert tree.tag.endswith("svg")
    assert "64 GPUs" in "".join(tree.itertext())


@pytest.mark.parametrize("padded", [False, True])
def test_train_step_contenders_agree_on_the_loss(padded: bool) -> None:
    pytest.importorskip("transformers", reason="needs the package transformers")
    only = ["ours", "eager", "sdpa"]
    found = train_step.measure(TOY, torch.device("cpu"), "fp32", 2, (12, 6), 2, only, padded=padded)
    assert set(found["contenders"]) == {"ours", "huggingface_eager", "huggingface_sdpa"}
    assert found["first_loss_spread"] < 1e-3
    assert found["curve_spread"] < 1e-2
    assert found["speedup_over_best_peer"] > 0
    for one in found["contenders"].values():
        assert len(one["losses"]) == 5
        assert one["flops_per_second"] > 0


def test_results_name_the_machine_but_no_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    result = {"figure": 1.0, "machine": common.machine()}
    common.report("toy", result, "table", argparse.Namespace(json=False, save=True))
    (file,) = tmp_path.glob("*-toy.json")
    assert json.loads(file.read_text())["machine"]["cores"] >= 1
    assert "table" in file.with_suffix(".md").read_text()
    assert common.platform.node() not in file.read_text()
