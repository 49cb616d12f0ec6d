"""The supervised verbs refuse bad input in one sentence, before Ray starts; plans are shown before they run."""

import json
import os
from pathlib import Path

import pytest

from data.prepare.embedded import prepare_embedded
from orchestrator import evaluate, experiment, finetune
from orchestrator.cli import DONE, WRONG

SMALL = ["model=tiny", "objective.input_length=48", "batch.rows=8", "batch.lanes=4", "steps=4"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(prepare_embedded(tmp_path_factory.mktemp("verbs") / "corpus"))


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """What gets as far as starting Ray fails the test."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("ray.init", started)


def tasks_in(folder: Path, **changes: object) -> str:
    """A file of one task `mine`, its source beside it."""
    labels = [0, 1, 1, 0]
    lines = [json.dumps({"text": f"word {number}", "label": label}) for number, label in enumerate(labels)]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "empty.jsonl").write_text("")
    (folder / "odd.jsonl").write_text('{"text": "x", "label": 7}\n')
    task = {
        "source": {"train": "train.jsonl", "validation": "validation.jsonl"},
        "inputs": "mine: {text}",
        "labels": ["good", "bad"],
        "metrics": ["accuracy"],
        **changes,
    }
    name = f"mine_{os.path.basename(folder).replace('-', '_')}"
    place = folder / "tasks.yaml"
    place.write_text(json.dumps({"tasks": {name: task}, "mixtures": {f"{name}_mixture": {name: 1, "unsupervised": 1}}}))
    return name


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mixture=glue_cola"], "needs weights to start from"),
        (["initial={base}/nowhere"], "needs something to train on"),
        (["initial={base}/nowhere", "mixture=glue_cola"], "nothing to start from at"),
    ],
)
def test_fine_tuning_needs_weights_and_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    given = [argument.format(base=tmp_path) for argument in arguments]
    assert finetune.main([f"storage={tmp_path}", *given]) == WRONG
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mixture", "changes", "sentence"),
    [
        ("glue_colla", {}, "did you mean glue_cola"),
        ("{name}", {"source": {"validation": "validation.jsonl"}}, "No split 'train'"),
        ("{name}", {"source": {"train": "empty.jsonl", "validation": "validation.jsonl"}}, "is empty"),
        ("{name}", {"source": {"train": "odd.jsonl", "validation": "validation.jsonl"}}, "7"),
        ("{name}", {"source": {"train": "validation.jsonl"}}, "No split 'validation'"),
        ("leave_out", {}, "No task or target to leave out 'superglue_cb'"),
    ],
)
def test_a_plan_with_bad_tasks_is_refused_whole(
    tmp_path: Path,
    corpus: str,
    capsys: pytest.CaptureFixture[str],
    mixture: str,
    changes: dict[str, object],
    sentence: str,
) -> None:
    name = tasks_in(tmp_path, **changes)
    config = {"mixture": mixture.format(name=name)}
    if mixture == "leave_out":
        config = {"mixture": f"{name}_mixture", "leave_out": "superglue_cb"}
    phases = [{"name": "fine"}, {"name": "wrong", "after": "fine", "config": config, "evaluate": [name]}]
    plan = tmp_path / "plan.yaml"
    plan.write_text(json.dumps({"base": {"tasks": ["tasks.yaml"]}, "phases": phases}))
    assert experiment.main([str(plan), f"storage={tmp_path}", f"corpus={corpus}", *SMALL]) == WRONG
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert len(error.splitlines()) == 1


def test_phases_that_cannot_follow_each_other_are_refused(
    tmp_path: Path, corpus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    phases = [
        {"name": "small"},
        {"name": "tuned", "after": "small", "config": {"options": {"layers": 3}, "optimizer": {"name": "adamw"}}},
    ]
    plan = tmp_path / "plan.yaml"
    plan.write_text(json.dumps({"phases": phases}))
    assert experiment.main([str(plan), f"storage={tmp_path}", f"corpus={corpus}", *SMALL]) == WRONG
    assert "the weights of `initial` do not fit" in capsys.readouterr().err


def test_a_plan_is_printed_without_data_or_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("study: multitask_then_finetune\ntargets: [squad]\n")
    assert experiment.main([str(plan), "--print-plan", "model=small"]) == DONE
    shown = capsys.readouterr().out
    assert "1. pretrain: 524,288 steps of 128 rows on multitask mixed proportional_19, from fresh weights" in shown
    assert "2. finetune_squad: 262,144 steps" in shown
    assert experiment.main([str(plan), "--print-config", "model=small"]) == DONE
    assert capsys.readouterr().out.count("model: small") == 2
    assert experiment.main([str(tmp_path / "none.yaml")]) == WRONG
    assert experiment.main(["steps=3"]) == WRONG
    assert "name the plan to run" in capsys.readouterr().err


def test_evaluating_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([str(tmp_path), "--tasks", "glue_cola"]) == WRONG
    assert "is no run, checkpoint or exported model" in capsys.readouterr().err
    assert evaluate.main(["steps=3"]) == WRONG
    assert "name what to evaluate" in capsys.readouterr().err


def test_flags_stand_before_or_after_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("run: a\nmodel: tiny\nseed: 1\n")
    for arguments in (
        [str(tmp_path), "--steps", "last", "--print-config", "seed=5"],
        ["--print-config", str(tmp_path), "seed=5", "--steps", "last"],
        [f"initial={tmp_path}", "seed=5", "--print-config"],
    ):
        assert evaluate.main(arguments) == DONE
        assert "seed: 5" in capsys.readouterr().out
