"""A plan's phases, each opened and checked before Ray starts, run side by side where they fit, summed up in a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data.storage import open_storage
from data.tasks.places import within
from orchestrator.config import Config
from orchestrator.driver import run_work
from orchestrator.evaluation import results as kept
from orchestrator.evaluation.evaluation import Checkpoints, Evaluation
from orchestrator.evaluation.examination import scored_tasks
from orchestrator.evaluation.results import Result
from orchestrator.evaluation.settings import Settings
from orchestrator.initial import Initial
from orchestrator.lease import acquire
from orchestrator.plans import Plan
from orchestrator.report.scores import content, show
from orchestrator.run import Run, open_run
from orchestrator.session import use_gpus
from orchestrator.work import Evaluating, Training, Work, is_done

RESULTS = "results.json"


@dataclass(frozen=True)
class Phase:
    """A phase that can run, and how its checkpoints are evaluated, if they are."""

    name: str
    run: Run
    after: str | None
    evaluation: Evaluation | None


def open_phases(plan: Plan, configs: Mapping[str, Config]) -> list[Phase]:
    """Open every phase on what the ones before it will leave. Raises `UserError` for the first that cannot run."""
    opened: dict[str, Phase] = {}
    for phase in plan.phases:
        config, initial = configs[phase.name], None
        if phase.after is not None:
            before = opened[phase.after].run
            initial = Initial(before.model, before.vocabulary, run_config=before.config)
        run = open_run(config, initial)
        evaluation = None
        if phase.evaluate:
            config = run.config
            evaluation = Evaluation(
                config.run_url,
                Checkpoints(config.run_url, "all"),
                scored_tasks(phase.evaluate, config.task_data),
                run.read_vocabulary(),
                Settings.of(config),
            )
            evaluation.prepare()
        opened[phase.name] = Phase(phase.name, run, phase.after, evaluation)
    return list(opened.values())


def run_plan(plan: Plan, configs: Mapping[str, Config]) -> int:
    """Run what is left of `plan`, write `results.json`, print the table; returns the exit code."""
    phases = open_phases(plan, configs)
    first = phases[0].run.config
    url = within(first.storage, plan.name)
    with acquire(open_storage(url), patience=30.0).start():
        works = _works(phases)
        done = [phase.run.config.run for phase in phases if is_done(phase.run)]
        code = 0
        if any(work.waiting() for work in works):
            code = run_work(works, done, style=first.log.format).code
        rows, columns = scores(phases)
        text = json.dumps(content(rows, columns), indent=2, ensure_ascii=False) + "\n"
        open_storage(url).write(RESULTS, text.encode())
    show(rows, columns, first.log.format)
    if first.log.format != "json":
        print(f"Everything lies in {url}; the table in {RESULTS}", flush=True)
    return code


def scores(phases: Sequence[Phase]) -> tuple[list[tuple[str, Result]], dict[str, dict[str, float]]]:
    """For each phase and task the best checkpoint's result, and the best figure of each column that is whole."""
    rows: list[tuple[str, Result]] = []
    columns: dict[str, dict[str, float]] = {}
    for phase in phases:
        if phase.evaluation is None:
            continue
        found = kept.read(phase.evaluation.storage)
        best = kept.best(found)
        rows += [(phase.name, best[task.name]) for task in phase.evaluation.tasks if task.name in best]
        figures = {name: score for name, (_, score) in kept.best_columns(found).items()}
        if figures:
            columns[phase.name] = figures
    return rows, columns


def _works(phases: Sequence[Phase]) -> list[Work]:
    """In the plan's order, each phase's evaluation before the next phase."""
    use_gpu = use_gpus(phases[0].run.config.parallel.device)
    runs = {phase.name: phase.run.config.run for phase in phases}
    works: list[Work] = []
    for phase in phases:
        after = None if phase.after is None else runs[phase.after]
        works.append(Training(phase.run, "", use_gpu, after))
        if phase.evaluation is not None:
            works.append(Evaluating(f"evaluation of {phase.run.config.run}", phase.evaluation, use_gpu))
    return works
