"""What a run's lanes hold: the unsupervised objective on a corpus, tasks, or a mixture of both with its rates."""

from __future__ import annotations

import math
from dataclasses import replace

from data import tasks
from data.errors import UserError
from data.evaluation import evaluation_rows
from data.mixing import PRESETS, UNSUPERVISED, preset
from data.objectives import ObjectiveSpec
from data.specification import LanesSpec, Source
from data.tasks import Lengths, Mixture, Task, study
from data.truncation import truncate
from orchestrator.config import Config

VALIDATION = "validation"


def lanes_spec(config: Config, corpus: str) -> LanesSpec:
    """What decides the rows of `config`'s lanes; `corpus` is the prepared corpus that also holds the vocabulary.

    Raises `UserError` for unknown tasks, empty sources, rates that sum to zero, a left-out task that is not there.
    """
    for path in config.tasks:
        tasks.load(path)
    spec = LanesSpec(
        sources(config, corpus),
        config.batch.lanes,
        config.batch.rows,
        config.seed,
        config.objective.input_length,
        config.objective.target_length,
        config.options.architecture,
        config.objective.lm_loss,
        config.batch.pack,
        vocabulary=corpus,
        bad_records=config.readers.bad_records,
        task_files=config.tasks,
        task_data=config.task_data,
    )
    return spec if config.objective.first_tokens is None else truncate(spec, config.objective.first_tokens)


def sources(config: Config, corpus: str) -> tuple[Source, ...]:
    """The tasks of `config` with their rates, which sum to 1."""
    chosen = config.objective
    objective = ObjectiveSpec(chosen.name, chosen.density, chosen.mean_span, chosen.raw_length)
    unsupervised = Source(UNSUPERVISED, corpus=corpus, objective=objective)
    mixture = mixture_of(config)
    if mixture is None:
        return (unsupervised,)
    rule = preset(str(config.mixture) if config.mixture in PRESETS else config.mixing)
    names = mixture.tasks()
    sizes = {name: task_size(name, config.task_data) for name in names}
    rates = mixture.rates_by(rule, sizes)
    return tuple(
        replace(unsupervised, rate=rate) if name == UNSUPERVISED else Source(name, rate) for name, rate in rates.items()
    )


def mixture_of(config: Config) -> Mixture | None:
    """The mixture that `config` names, less what it leaves out; None for the unsupervised objective alone."""
    if config.mixture is None:
        if config.leave_out is not None:
            raise UserError(f"leave_out={config.leave_out} needs a mixture to leave it out of; give mixture=NAME")
        return None
    mixture = study.MULTITASK if config.mixture in PRESETS else tasks.get_mixture(config.mixture)
    return mixture if config.leave_out is None else study.leave_one_out(mixture, config.leave_out)


def task_size(name: str, task_data: str | None) -> float:
    """Training examples of a task after its filters; the unsupervised task is as large as any limit."""
    if name == UNSUPERVISED:
        return math.inf
    return float(tasks.located(tasks.get_task(name), task_data).size())


def supervised_tasks(spec: LanesSpec) -> list[Task]:
    """The tasks of `spec`'s lanes, reading where it says, cut as its rows cut them."""
    inputs, targets = spec.lengths
    return [
        clipped(tasks.located(tasks.get_task(source.name), spec.task_data), inputs, targets)
        for source in spec.sources
        if source.objective is None
    ]


def clipped(task: Task, inputs: int, targets: int) -> Task:
    """`task` with no longer inputs and targets than these (tokens, EOS included)."""
    return task.replaced(lengths=Lengths(min(task.lengths.inputs, inputs), min(task.lengths.targets, targets)))


def held_out_source(spec: LanesSpec) -> str | None:
    """The source whose validation split gives the held-out loss: the unsupervised one, else the first that has one."""
    for source in sorted(spec.sources, key=lambda source: source.objective is None):
        try:
            next(evaluation_rows(spec, VALIDATION, 1, source.name))
        except UserError:
            continue
        return source.name
    return None
