"""Plans: from YAML to each phase's configuration; what does not fit is refused in a sentence."""

from pathlib import Path
from typing import Any

import pytest

from data.errors import UserError
from data.tasks import get_mixture, study
from orchestrator.plans import Plan, configurations, describe, parse, read_plan

PLAN: dict[str, Any] = {
    "name": "small",
    "base": {"model": "tiny", "storage": "/somewhere", "steps": 10},
    "phases": [
        {"name": "first", "config": {"mixture": "glue"}, "evaluate": ["glue_cola"]},
        {
            "name": "second",
            "after": "first",
            "config": {"preset": "finetune", "steps": 5, "mixture": "glue_cola", "options": {"adapter": 4}},
            "evaluate": ["glue_cola", "superglue"],
        },
    ],
}


def changed(number: int, **changes: Any) -> dict[str, Any]:
    phases = [dict(phase) for phase in PLAN["phases"]]
    phases[number].update(changes)
    return {**PLAN, "phases": phases}


def test_a_phase_takes_base_then_its_own_values_then_overrides() -> None:
    configs = configurations(parse(PLAN, "file"), overrides=["seed=7", "batch.rows=16", "batch.lanes=8"])
    first, second = configs["first"], configs["second"]
    assert (first.steps, first.mixture, first.schedule.name) == (10, "glue", "inverse_square_root")
    assert (second.steps, second.mixture, second.schedule.name) == (5, "glue_cola", "constant")
    assert second.options.adapter == 4
    assert {config.seed for config in configs.values()} == {7}
    assert {config.batch.rows for config in configs.values()} == {16}


def test_phases_lie_under_the_plan_and_start_from_the_phase_before() -> None:
    configs = configurations(parse(PLAN, "file"))
    assert configs["first"].run_url == "/somewhere/small/first"
    assert configs["first"].initial is None
    assert configs["second"].initial == "/somewhere/small/first"
    moved = configurations(parse(PLAN, "file"), overrides=["storage=/elsewhere"])
    assert moved["second"].initial == "/elsewhere/small/first"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({**PLAN, "phase": []}, "No key 'phase' in the plan: did you mean phases"),
        ({"name": "x"}, "needs either phases or study"),
        ({**PLAN, "study": "baseline"}, "needs either phases or study"),
        ({**PLAN, "phases": []}, "has no phases"),
        ({**PLAN, "targets": ["glue"]}, "belongs to a study"),
        ({**PLAN, "name": "a/b"}, "is named 'a/b'"),
        (changed(1, after="frist"), "No phase 'frist' in what stands before phase second: did you mean first"),
        (changed(0, after="second"), "No phase 'second'"),
        (changed(1, name="first"), "two phases 'first'"),
        (changed(0, evaluat=["x"]), "did you mean evaluate"),
        (changed(0, evaluate="glue_cola"), "give a list"),
        (changed(0, config=["x"]), "write configuration keys as a mapping"),
        (changed(0, config={"preset": "nothing"}), "'nothing' in phase first is unknown"),
        ({"study": "baselin"}, "No experiment 'baselin': did you mean baseline"),
        ({"study": "baseline", "targets": ["glu"]}, "No target 'glu' in study baseline: did you mean glue"),
    ],
)
def test_what_does_not_fit_is_named(content: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("(", r"\(")):
        parse(content, "file")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["run=mine"], "follow from plan small"),
        (["initial=/x"], "follow from plan small"),
        (["checkpoint.keep=2"], "before they are evaluated"),
        (["stepz=2"], "did you mean steps"),
    ],
)
def test_overrides_that_would_break_a_plan_are_refused(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        configurations(parse(PLAN, "file"), overrides=overrides)


@pytest.mark.parametrize("name", sorted(study.PLANS))
def test_every_experiment_of_the_paper_becomes_phases(name: str) -> None:
    plan = parse({"study": name, "base": {"storage": "/s"}}, name)
    configs = configurations(plan)
    stages = {stage.name: stage for stage in study.plan(name)}
    assert [phase.name for phase in plan.phases] == list(stages)
    for phase in plan.phases:
        stage, config = stages[phase.name], configs[phase.name]
        assert (phase.after, phase.evaluate) == (stage.after, stage.targets)
        assert (config.steps, config.checkpoint.every) == (stage.steps, stage.checkpoint_steps)
        assert (config.schedule.name, config.schedule.rate) == (
            ("constant", 0.001) if stage.after else ("inverse_square_root", 1.0)
        )
        if config.mixture is None:
            assert stage.mixture.tasks() == ["unsupervised"]
        else:
            mixture = get_mixture(config.mixture)
            left = mixture if config.leave_out is None else study.leave_one_out(mixture, config.leave_out)
            assert left.tasks() == stage.mixture.tasks()


def test_a_study_can_be_cut_to_some_targets_and_made_small() -> None:
    plan = parse(
        {
            "study": "leave_one_out",
            "targets": ["superglue"],
            "base": {"model": "tiny"},
            "pretraining": {"steps": 30},
            "finetuning": {"steps": 20, "schedule": {"rate": 0.01}},
        },
        "mine",
    )
    assert [phase.name for phase in plan.phases] == ["pretrain_without_superglue", "finetune_superglue"]
    configs = list(configurations(plan).values())
    assert [config.steps for config in configs] == [30, 20]
    assert configs[0].leave_out == "superglue"
    assert configs[1].schedule.rate == 0.01


def test_tasks_alone_take_the_small_batch_of_the_final_models() -> None:
    configs = configurations(parse({"study": "final", "targets": ["glue_rte", "squad"]}, "final"))
    assert configs["finetune_glue_rte"].batch.rows == 8
    assert configs["finetune_squad"].batch.rows == 128


def test_a_file_of_tasks_beside_the_plan_is_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("tasks: {}\n")
    (tmp_path / "plan.yaml").write_text("base: {tasks: [mine.yaml, some.module]}\nphases: [{name: a}]\n")
    plan = read_plan(str(tmp_path / "plan.yaml"))
    assert plan.name == "plan"
    assert configurations(plan)["a"].tasks == (str(tmp_path / "mine.yaml"), "some.module")
    with pytest.raises(UserError, match="there is no plan"):
        read_plan(str(tmp_path / "other.yaml"))


def test_the_plan_is_described_phase_by_phase() -> None:
    plan: Plan = parse(PLAN, "file")
    text = describe(plan, configurations(plan))
    assert "Plan small: 2 phases" in text
    assert "2. second: 5 steps of 128 rows on glue_cola mixed proportional_19, from first, parameters all" in text
