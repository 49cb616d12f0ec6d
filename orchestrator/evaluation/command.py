"""What the verb `evaluate` does: finds weights, tasks and vocabulary, evaluates on Ray, shows the scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data import tasks
from data.errors import UserError
from data.storage import open_storage
from data.vocabulary import Vocabulary
from model.convert import open_folder
from orchestrator.cli import DONE
from orchestrator.config import Config
from orchestrator.driver import run_work
from orchestrator.evaluation import results as kept
from orchestrator.evaluation.evaluation import Checkpoints, Evaluation, Weights
from orchestrator.evaluation.examination import scored_tasks
from orchestrator.evaluation.points import Point, ensemble, single
from orchestrator.evaluation.settings import Settings
from orchestrator.initial import find, run_and_checkpoint
from orchestrator.report.scores import show
from orchestrator.run import recorded_config
from orchestrator.session import use_gpus
from orchestrator.work import Evaluating


class Fixed:
    """Weights that do not change."""

    def __init__(self, point: Point) -> None:
        self._point = point

    def __call__(self) -> Sequence[Point]:
        return (self._point,)


def is_exported(source: str) -> bool:
    """Whether `source` is a folder of `model.convert` or Hugging Face."""
    return "://" not in source and (Path(source) / "config.json").exists()


def base_values(source: str) -> dict[str, Any]:
    """The configuration that an evaluation of `source` starts from: its run's own, or a name alone."""
    if is_exported(source):
        return {"run": re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).resolve().name).strip("-._") or "exported"}
    config = recorded_config(open_storage(run_and_checkpoint(source)[0]))
    if config is None:
        raise UserError(f"{source} is no run, checkpoint or exported model: there is no config.yaml or config.json")
    return config.model_dump(mode="json")


def evaluate(
    config: Config, source: str, names: Sequence[str], *, steps: str, follow: bool, ensemble: Sequence[str]
) -> int:
    """Evaluate and print the table; returns the exit code. What can be refused is refused before Ray starts."""
    evaluation = open_evaluation(config, source, names, steps, ensemble)
    pending = evaluation.pending()
    if follow or pending:
        work = Evaluating(f"evaluation of {config.run}", evaluation, use_gpus(config.parallel.device), follow=follow)
        ended = run_work([work], style=config.log.format)
        if ended.code != DONE:
            return ended.code
    labels = {point.label for point in evaluation.weights()}
    found = [result for result in kept.read(evaluation.storage) if result.label in labels]
    columns = {name: score for name, (_, score) in kept.best_columns(found).items()}
    show([(config.run, result) for result in found], {config.run: columns} if columns else {}, config.log.format)
    if config.log.format != "json":
        print(f"Outputs and results lie in {evaluation.url}/{kept.FOLDER}")
    return DONE


def open_evaluation(
    config: Config, source: str, names: Sequence[str], steps: str, members: Sequence[str]
) -> Evaluation:
    """What `source` and the flags ask for, all of it looked at: `UserError` for what is not there."""
    for place in config.tasks:
        tasks.load(place)
    names = names or ([config.mixture] if config.mixture else [])
    if not names:
        raise UserError(f"{source} was trained on no task; name some: --tasks NAME,NAME")
    url = config.run_url if is_exported(source) else run_and_checkpoint(source)[0]
    evaluation = Evaluation(
        url,
        _weights(source, steps, members),
        scored_tasks(names, config.task_data),
        _vocabulary(config, source),
        Settings.of(config),
    )
    evaluation.prepare()
    return evaluation


def _weights(source: str, steps: str, members: Sequence[str]) -> Weights:
    if members:
        return Fixed(ensemble([source, *members]))
    run, checkpoint = run_and_checkpoint(source)
    if is_exported(source) or checkpoint is not None:
        return Fixed(single(source, find(source)))
    return Checkpoints(run, steps)


def _vocabulary(config: Config, source: str) -> Vocabulary:
    if is_exported(source):
        found = open_folder(Path(source)).vocabulary
        if found is not None:
            return Vocabulary(found)
    if config.corpus is None:
        raise UserError(f"{source} holds no vocabulary; give corpus=FOLDER, the prepared corpus it was trained with")
    return Vocabulary.load(open_storage(config.corpus))
