"""The study's experiments as data: targets, mixtures, what is left out, and each plan's stages (facts 6.3, 6.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from data.mixing import UNSUPERVISED
from data.naming import unknown
from data.tasks.mixture import Mixture

GLUE = ("glue_cola", "glue_sst2", "glue_mrpc", "glue_stsb", "glue_qqp", "glue_mnli", "glue_qnli", "glue_rte")
SUPERGLUE = (
    "superglue_boolq",
    "superglue_cb",
    "superglue_copa",
    "superglue_multirc",
    "superglue_record",
    "superglue_rte",
    "superglue_wic",
    "superglue_wsc",
    "superglue_dpr",
)

PRETRAINING_STEPS = 2**19
FINETUNING_STEPS = 2**18
CHECKPOINT_STEPS = 5_000
SMALL_CHECKPOINT_STEPS = 1_000


@dataclass(frozen=True)
class Target:
    """A column of the tables as a fine-tuning target: the tasks trained together, and those evaluated."""

    name: str
    column: str
    tasks: tuple[str, ...]
    evaluated: tuple[str, ...]

    @property
    def mixture(self) -> Mixture:
        """The target's tasks by their numbers of examples: one model for all of them."""
        return Mixture(self.name, tuple((task, None) for task in self.tasks))


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("glue", "GLUE", GLUE, (*GLUE, "glue_mnli_mismatched")),
        Target("cnn_dailymail", "CNNDM", ("cnn_dailymail",), ("cnn_dailymail",)),
        Target("squad", "SQuAD", ("squad",), ("squad",)),
        Target("superglue", "SGLUE", SUPERGLUE, SUPERGLUE[:-1]),
        Target("wmt_ende", "EnDe", ("wmt_ende",), ("wmt_ende",)),
        Target("wmt_enfr", "EnFr", ("wmt_enfr",), ("wmt_enfr",)),
        Target("wmt_enro", "EnRo", ("wmt_enro",), ("wmt_enro",)),
    )
}
SUPERVISED = Mixture("supervised", tuple((task, None) for target in TARGETS.values() for task in target.tasks))
PRONOUNS = Mixture("superglue_wsc_with_dpr", (("superglue_wsc", None), ("superglue_dpr", None)))
MULTITASK = Mixture("multitask", ((UNSUPERVISED, None), *SUPERVISED.members))


def group_of(target: str, mixture: Mixture) -> frozenset[str]:
    """The tasks that leaving out `target` drops: a target's whole group, or one task of the mixture."""
    for name, known in TARGETS.items():
        if target in (name, known.column):
            return frozenset(known.tasks)
    if target in mixture.tasks():
        return frozenset((target,))
    raise unknown("task or target to leave out", target, [*TARGETS, *mixture.tasks()], f"mixture {mixture.name!r}")


def leave_one_out(mixture: Mixture, target: str) -> Mixture:
    """`mixture` less the group of `target`, named `MIXTURE_without_TARGET`.

    Without one benchmark a single RTE is left, so `data.mixing.scales` halves nothing. Raises UserError where
    the target is in no mixture, or nothing remains.
    """
    return mixture.without(group_of(target, mixture), f"{mixture.name}_without_{target}")


@dataclass(frozen=True)
class Stage:
    """One training of a plan.

    `mixture` is trained for `steps`, starting from the last checkpoint of the stage `after` (fresh where None);
    `targets` are evaluated every `checkpoint_steps`.
    """

    name: str
    mixture: Mixture
    steps: int
    after: str | None = None
    targets: tuple[str, ...] = ()
    checkpoint_steps: int = CHECKPOINT_STEPS


def _pretrained(name: str, mixture: Mixture) -> Stage:
    return Stage(name, mixture, PRETRAINING_STEPS)


def _finetuned(target: Target, after: str) -> Stage:
    return Stage(f"finetune_{target.name}", target.mixture, FINETUNING_STEPS, after, (target.name,))


def _then_each_target(mixture: Mixture) -> tuple[Stage, ...]:
    return (_pretrained("pretrain", mixture), *(_finetuned(target, "pretrain") for target in TARGETS.values()))


def _each_left_out() -> tuple[Stage, ...]:
    stages = []
    for name, target in TARGETS.items():
        pretraining = _pretrained(f"pretrain_without_{name}", leave_one_out(MULTITASK, name))
        stages += [pretraining, _finetuned(target, pretraining.name)]
    return tuple(stages)


def _each_task_alone() -> tuple[Stage, ...]:
    """Fine-tuning of the final models: GLUE's and SuperGLUE's tasks on their own, but WSC together with DPR."""
    stages = [_pretrained("pretrain", MULTITASK)]
    for target in TARGETS.values():
        small = target.name in ("glue", "superglue")
        for task in target.tasks:
            if task == "superglue_dpr":
                continue
            alone = Mixture(task, ((task, None),))
            stages.append(
                Stage(
                    f"finetune_{task}",
                    PRONOUNS if task == "superglue_wsc" else alone,
                    FINETUNING_STEPS,
                    "pretrain",
                    (task,),
                    SMALL_CHECKPOINT_STEPS if small else CHECKPOINT_STEPS,
                )
            )
    return tuple(stages)


UNSUPERVISED_ALONE = Mixture("unsupervised_alone", ((UNSUPERVISED, 1.0),))

PLANS: Mapping[str, tuple[Stage, ...]] = {
    "baseline": _then_each_target(UNSUPERVISED_ALONE),
    "multitask": (Stage("multitask", MULTITASK, PRETRAINING_STEPS + FINETUNING_STEPS, targets=tuple(TARGETS)),),
    "multitask_then_finetune": _then_each_target(MULTITASK),
    "leave_one_out": _each_left_out(),
    "supervised": _then_each_target(SUPERVISED),
    "final": _each_task_alone(),
}
"""Stages of each experiment, in an order that can be run as it stands."""


def plan(name: str) -> tuple[Stage, ...]:
    """The stages of an experiment, or a UserError that suggests near names."""
    if name not in PLANS:
        raise unknown("experiment", name, PLANS)
    return PLANS[name]
