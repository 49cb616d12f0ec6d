"""Evaluates the sets of weights of one run on tasks: decodes what is missing, judges, keeps the best."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from data.storage import Storage, open_storage
from data.tasks import Task
from data.tasks.places import within
from data.vocabulary import Vocabulary
from orchestrator.checkpoint import Manifest
from orchestrator.evaluation import results as kept
from orchestrator.evaluation.examination import Examination, examine, signature
from orchestrator.evaluation.follow import Liveness
from orchestrator.evaluation.points import Point, chosen, permanent, point_of
from orchestrator.evaluation.pool import Pool
from orchestrator.evaluation.results import FOLDER, Result
from orchestrator.evaluation.settings import Settings
from orchestrator.evaluation.sheet import Sheet
from orchestrator.lease import acquire
from orchestrator.scheduler.order import Demand

_LOOK_SECONDS = 2.0
Say = Callable[[str], None]


class Weights(Protocol):
    """Says which weights there are now."""

    def __call__(self) -> Sequence[Point]: ...


class Checkpoints:
    """The checkpoints of a run that `steps` ("all", "last", a number) names, as they are now."""

    def __init__(self, run_url: str, steps: str) -> None:
        self._run_url = run_url
        self._steps = steps
        self._known: dict[str, Manifest] = {}

    def __call__(self) -> Sequence[Point]:
        manifests = permanent(open_storage(self._run_url), self._known)
        return [point_of(self._run_url, manifest) for manifest in chosen(manifests, self._steps)]


class Evaluation:
    """What is evaluated and where the results go: the folder of the run (or of an evaluation) at `url`."""

    def __init__(
        self, url: str, weights: Weights, tasks: Sequence[Task], vocabulary: Vocabulary, settings: Settings
    ) -> None:
        self.url = url
        self.tasks = list(tasks)
        self.settings = settings
        self.weights = weights
        self._vocabulary = vocabulary
        self._examinations: dict[str, Examination] = {}

    @property
    def storage(self) -> Storage:
        """The folder."""
        return open_storage(self.url)

    def demand(self, use_gpu: bool) -> Demand:
        """What the evaluator actors take."""
        actors = self.settings.actors
        return Demand(actors * self.settings.cpus, actors if use_gpu else 0)

    def prepare(self) -> None:
        """Read and encode all tasks; raises `UserError` for the first that cannot be evaluated."""
        for task in self.tasks:
            if task.name not in self._examinations:
                self._examinations[task.name] = examine(
                    task,
                    self._vocabulary,
                    self.settings.positions,
                    inputs=self.settings.input_length,
                    targets=self.settings.target_length,
                )

    def pending(self) -> list[tuple[Point, str]]:
        """Weights and names of tasks that have no result yet, or one made with other data or settings."""
        self.prepare()
        held = {(result.label, result.task): result.signature for result in kept.read(self.storage)}
        return [
            (point, task.name)
            for point in self.weights()
            for task in self.tasks
            if held.get((point.label, task.name)) != self._signature(point, task.name)
        ]

    def run(self, pool: Pool, say: Say, stop: threading.Event, *, follow: bool = False) -> bool:
        """Evaluate what is pending, with `follow` until the run itself has ended; False where `stop` came before."""
        alive = Liveness(self.storage)
        with acquire(open_storage(within(self.url, FOLDER)), patience=30.0).start():
            while True:
                going = follow and alive()
                for point, name in self.pending():
                    if not self._evaluate(pool, point, name, say, stop):
                        return False
                if not going:
                    return True
                if stop.wait(_LOOK_SECONDS):
                    return False

    def _evaluate(self, pool: Pool, point: Point, name: str, say: Say, stop: threading.Event) -> bool:
        examination = self._examinations[name]
        mark = self._signature(point, name)
        sheet = Sheet(self.storage, f"{FOLDER}/{point.label}/{name}.jsonl", mark)
        batches = examination.missing(sheet.known)
        rows = [[examination.inputs[index] for index in batch] for batch in batches]
        for number, outputs in pool.decode(point.sources, rows):
            texts = [self._vocabulary.decode(ids) for ids in outputs]
            sheet.add([examination.examples[index] for index in batches[number]], texts)
            if stop.is_set():
                sheet.flush()
                return False
        result = judge(examination, sheet.finish(examination.examples), point, mark)
        others = [r for r in kept.read(self.storage) if (r.label, r.task) != (point.label, name)]
        kept.write(self.storage, [*others, result])
        beside = "" if result.majority_score is None else f" (majority class {result.majority_score:.2f})"
        say(f"step {point.label}: {name} {result.score:.2f}{beside}")
        return True

    def _signature(self, point: Point, name: str) -> dict[str, object]:
        return signature(self._examinations[name], {"weights": point.mark, **self.settings.identity()})


def judge(examination: Examination, outputs: Sequence[str], point: Point, mark: dict[str, object]) -> Result:
    """The result of a task's outputs, in the order of its examples."""
    task = examination.task
    figures = task.evaluate(examination.examples, outputs)
    majority = examination.majority
    return Result(
        label=point.label,
        step=point.step,
        task=task.name,
        split=examination.split,
        examples=len(examination.examples),
        results=figures,
        score=task.score(figures),
        majority=majority,
        majority_score=None if majority is None else task.score(majority),
        signature=mark,
        metrics=task.signatures(),
    )
