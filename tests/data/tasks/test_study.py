"""Mixtures and the study's plans: nesting, leaving out, RTE's rule, and the shares that the paper's setting gives."""

import pytest

from data.errors import UserError
from data.metrics.columns import COLUMNS
from data.mixing import STUDY_SIZES, UNSUPERVISED, preset, shares
from data.tasks import Mixture, get_mixture, get_task, mixture_names, study
from data.tasks.study import MULTITASK, SUPERVISED, TARGETS, leave_one_out, plan


def test_the_full_mixture_has_the_studys_23_tasks():
    assert len(MULTITASK.tasks()) == 23
    assert set(MULTITASK.tasks()) == set(STUDY_SIZES)
    assert set(SUPERVISED.tasks()) == set(STUDY_SIZES) - {UNSUPERVISED}
    assert {"glue", "superglue", "supervised", "multitask"} <= set(mixture_names())


def test_its_shares_under_a_cap_are_the_papers():
    rates = MULTITASK.rates_by(preset("proportional_19"), STUDY_SIZES)
    rounded = {column: round(share, 3) for column, share in shares(rates).items()}
    assert rounded == {
        "C4": 0.145,
        "GLUE": 0.263,
        "SGLUE": 0.051,
        "CNNDM": 0.080,
        "SQuAD": 0.024,
        "EnDe": 0.145,
        "EnFr": 0.145,
        "EnRo": 0.145,
    }
    assert sum(rates.values()) == pytest.approx(1)


def test_nested_rates_multiply():
    inner = Mixture("inner", (("glue_cola", None), ("glue_rte", None)))
    outer = Mixture("outer", ((inner, 0.25), ("squad", 0.5), ("glue_cola", 0.25)))
    assert outer.rates(lambda task: {"glue_cola": 3.0, "glue_rte": 1.0}[task]) == pytest.approx(
        {"glue_cola": 0.25 * 0.75 + 0.25, "glue_rte": 0.25 * 0.25, "squad": 0.5}
    )
    counted = Mixture("counted", ((inner, None), ("squad", None)))
    assert counted.rates(lambda task: 2.0) == pytest.approx({"glue_cola": 1 / 3, "glue_rte": 1 / 3, "squad": 1 / 3})
    assert outer.tasks() == ["glue_cola", "glue_rte", "squad"]


def test_a_member_with_rate_zero_is_not_drawn():
    assert Mixture("m", (("squad", 1), ("glue_cola", 0))).rates(lambda task: 1.0) == {"squad": 1.0}
    with pytest.raises(UserError, match="rates of mixture 'm' sum to zero"):
        Mixture("m", (("squad", 0), ("glue_cola", None))).rates(lambda task: 0.0)
    with pytest.raises(UserError, match="names 'squad' twice"):
        Mixture("m", (("squad", 1), ("squad", 2)))


def test_leaving_out_a_benchmark_drops_its_group_and_restores_the_other_rte():
    rule = preset("proportional_19")
    left = leave_one_out(MULTITASK, "glue")
    assert left.name == "multitask_without_glue"
    assert not set(left.tasks()) & set(study.GLUE)
    assert len(left.tasks()) == 15
    whole, less = MULTITASK.rates_by(rule, STUDY_SIZES), left.rates_by(rule, STUDY_SIZES)
    # Against a task whose weight does not change, the lone RTE counts twice what it did.
    assert less["superglue_rte"] / less["squad"] == pytest.approx(2 * whole["superglue_rte"] / whole["squad"])
    assert leave_one_out(MULTITASK, "GLUE").tasks() == left.tasks()


def test_leaving_out_one_task_reaches_into_nested_mixtures():
    nested = Mixture("nested", ((TARGETS["glue"].mixture, 1.0), ("squad", 1.0)))
    assert leave_one_out(nested, "glue_cola").tasks() == [*study.GLUE[1:], "squad"]
    assert leave_one_out(nested, "glue").tasks() == ["squad"]
    assert nested.tasks() == [*study.GLUE, "squad"]


@pytest.mark.parametrize(
    ("mixture", "target", "message"),
    [
        ("glue", "squad", "Mixture 'glue' holds none of squad: leave out one of glue_cola"),
        ("glue", "superglu", r"No task or target to leave out 'superglu' in mixture 'glue': did you mean superglue\?"),
        ("glue", "GLUE", "Mixture 'glue' holds nothing but"),
    ],
)
def test_a_target_that_cannot_be_left_out_is_named(mixture, target, message):
    with pytest.raises(UserError, match=message):
        leave_one_out(get_mixture(mixture), target)


def test_targets_are_the_seven_columns_and_evaluate_what_those_need():
    assert [target.column for target in TARGETS.values()] == [name for name in COLUMNS if name != "GLUE test"]
    for target in TARGETS.values():
        needed = {task for unit in COLUMNS[target.column] for task, _ in unit}
        assert needed == set(target.evaluated)
        assert all(get_task(task).metric_split == "validation" for task in target.evaluated)


def test_a_tasks_score_is_its_units_mean():
    for units in COLUMNS.values():
        for unit in units:
            tasks = {task for task, _ in unit}
            for name in tasks - {"glue_wnli"}:
                task = get_task(name)
                names = [metric for each, metric in unit if each == name]
                results = {metric: float(i) for each in task.metrics for i, metric in enumerate(each.results)}
                assert task.score(results) == pytest.approx(sum(results[metric] for metric in names) / len(names))
    with pytest.raises(UserError, match="'squad' is chosen by exact_match, but the results hold f1"):
        get_task("squad").score({"f1": 1.0})


def test_the_plans_are_those_of_the_study():
    assert [stage.steps for stage in plan("multitask")] == [2**19 + 2**18]
    for name, mixture in (("multitask_then_finetune", MULTITASK), ("supervised", SUPERVISED)):
        first, *rest = plan(name)
        assert (first.mixture, first.steps, first.after) == (mixture, 2**19, None)
        assert [stage.steps for stage in rest] == [2**18] * 7
        assert {stage.after for stage in rest} == {"pretrain"}
    assert plan("baseline")[0].mixture.tasks() == [UNSUPERVISED]
    left = plan("leave_one_out")
    assert len(left) == 14
    for pretraining, finetuning in zip(left[::2], left[1::2], strict=True):
        (target,) = finetuning.targets
        assert finetuning.after == pretraining.name
        assert not set(pretraining.mixture.tasks()) & set(TARGETS[target].tasks)
        assert set(pretraining.mixture.tasks()) | set(TARGETS[target].tasks) == set(MULTITASK.tasks())
    final = {stage.name: stage for stage in plan("final")}
    assert final["finetune_superglue_wsc"].mixture.tasks() == ["superglue_wsc", "superglue_dpr"]
    assert final["finetune_glue_rte"].mixture.tasks() == ["glue_rte"]
    assert (final["finetune_glue_rte"].checkpoint_steps, final["finetune_squad"].checkpoint_steps) == (1000, 5000)
    assert len(final) == 1 + 21
    for stages in map(plan, study.PLANS):
        names = [stage.name for stage in stages]
        assert len(set(names)) == len(names)
        assert all(stage.after is None or stage.after in names[:i] for i, stage in enumerate(stages))


def test_an_unknown_plan_is_answered_with_near_ones():
    with pytest.raises(UserError, match=r"No experiment 'leave_out': did you mean leave_one_out\?"):
        plan("leave_out")
