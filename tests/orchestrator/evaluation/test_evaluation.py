"""An evaluation without Ray: every example once, on after an interruption, nothing twice, stale outputs not kept."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.errors import UserError
from data.tasks import Task
from data.tasks.declared import task_of
from model.config import T5Config
from model.decoding.search import beam_search, greedy
from model.initialize import initialize
from model.transformer import T5
from orchestrator.config import load
from orchestrator.evaluation import evaluator as evaluator_module
from orchestrator.evaluation import results as kept
from orchestrator.evaluation.evaluation import Evaluation
from orchestrator.evaluation.evaluator import Evaluator
from orchestrator.evaluation.examination import examine, require_unique, scored_tasks
from orchestrator.evaluation.points import Point
from orchestrator.evaluation.settings import Settings
from orchestrator.scheduler.phase import Status
from orchestrator.work import Evaluating
from tests.data.fakes import vocabulary

WORDS = ("kon", "tal")
LIMITS = Settings(1, 0.6, 8, 64, 8)


class FakePool:
    """Answers every input with the same word; stops the evaluation after so many batches."""

    def __init__(self, word: str = WORDS[0], stop: threading.Event | None = None, after: int = 0) -> None:
        self.word, self.stop, self.after = word, stop, after
        self.decoded: list[int] = []

    def decode(self, sources: Sequence[str], batches: Sequence[Any]) -> Iterator[tuple[int, list[list[int]]]]:
        for number in reversed(range(len(batches))):
            self.decoded.append(len(batches[number]))
            if self.stop is not None and len(self.decoded) == self.after:
                self.stop.set()
            yield number, [[*vocabulary().encode(self.word), 1, 0] for _ in batches[number]]


def task_in(folder: Path, count: int = 40, **extra: Any) -> Task:
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"text": "so " * (1 + n % 17), "label": int(n % 4 == 0)}) for n in range(count)]
    (folder / "validation.jsonl").write_text("\n".join(lines) + "\n")
    given = {
        "source": {"validation": "validation.jsonl"},
        "inputs": "mine: {text}",
        "labels": list(WORDS),
        "metrics": ["accuracy"],
        **extra,
    }
    return task_of("mine", given, str(folder))


def made(folder: Path, task: Task, points: Sequence[Point], settings: Settings = LIMITS) -> Evaluation:
    return Evaluation(str(folder / "run"), lambda: points, [task], vocabulary(), settings)


def point(step: int, mark: str = "a") -> Point:
    return Point(str(step), step, (f"checkpoint {step}",), mark)


def run(evaluation: Evaluation, pool: FakePool, stop: threading.Event | None = None) -> bool:
    return evaluation.run(pool, lambda words: None, stop or threading.Event())  # type: ignore[arg-type]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.evaluation.settings.BATCH_POSITIONS", 100)


def test_every_example_is_decoded_once_and_judged_beside_the_majority_class(tmp_path: Path) -> None:
    evaluation, pool = made(tmp_path, task_in(tmp_path), [point(10), point(20)]), FakePool()
    assert run(evaluation, pool)
    assert sum(pool.decoded) == 2 * 40
    assert [(r.step, r.score, r.majority_score, r.examples) for r in kept.read(evaluation.storage)] == [
        (10, 75.0, 75.0, 40), (20, 75.0, 75.0, 40),
    ]  # fmt: skip
    assert evaluation.pending() == []
    lines = (tmp_path / "run/evaluations/20/mine.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [str(number) for number in range(40)]
    assert json.loads(lines[0]) | {"inputs": "", "id": ""} == {
        "inputs": "", "targets": WORDS[1], "id": "", "group": "", "answers": [], "truth": None, "output": WORDS[0],
    }  # fmt: skip


@pytest.mark.usefixtures("small_batches")
def test_an_interrupted_evaluation_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    task, stop = task_in(tmp_path), threading.Event()
    first = FakePool(stop=stop, after=3)
    assert not run(made(tmp_path, task, [point(10)]), first, stop)
    again = made(tmp_path, task, [point(10)])
    assert [name for _, name in again.pending()] == ["mine"]
    second = FakePool()
    assert run(again, second)
    assert len(first.decoded) == 3
    assert sum(first.decoded) + sum(second.decoded) == 40


@pytest.mark.parametrize("change", ["weights", "decoding", "data"])
def test_what_was_made_otherwise_is_made_anew(tmp_path: Path, change: str) -> None:
    assert run(made(tmp_path, task_in(tmp_path), [point(10)]), FakePool())
    mark, settings, count = "a", LIMITS, 40
    if change == "weights":
        mark = "b"
    elif change == "decoding":
        settings = Settings(4, 0.6, 8, 64, 8)
    else:
        count = 44
    evaluation, pool = made(tmp_path, task_in(tmp_path, count), [point(10, mark)], settings), FakePool(WORDS[1])
    assert run(evaluation, pool)
    assert sum(pool.decoded) == count
    assert [r.score for r in kept.read(evaluation.storage)] == [25.0]


def test_output_outside_the_labels_is_wrong_and_never_a_crash(tmp_path: Path) -> None:
    evaluation = made(tmp_path, task_in(tmp_path), [point(10)])
    assert run(evaluation, FakePool("what is this"))
    assert kept.read(evaluation.storage)[0].score == 0.0


def test_tasks_that_cannot_be_evaluated_are_refused_by_name(tmp_path: Path) -> None:
    limits = {"inputs": 64, "targets": 8}
    with pytest.raises(UserError, match="'mine' has no metrics"):
        examine(task_in(tmp_path / "a", metrics=[]), vocabulary(), 100, **limits)
    with pytest.raises(UserError, match="No split 'validation'"):
        examine(task_in(tmp_path / "b", source={"train": "validation.jsonl"}), vocabulary(), 100, **limits)
    with pytest.raises(UserError, match="did you mean glue_cola"):
        scored_tasks(["glue_colla"], None)
    with pytest.raises(UserError, match="none of unsupervised has a split"):
        scored_tasks(["unsupervised"], None)
    examples = list(task_in(tmp_path / "c").examples("validation"))
    with pytest.raises(UserError, match="two examples of the id '3'"):
        require_unique("mine", [*examples, examples[3]])


def test_both_halves_of_mnli_are_scored_where_glue_is_asked_for() -> None:
    assert "glue_mnli_mismatched" in [task.name for task in scored_tasks(["glue"], None)]
    assert [task.name for task in scored_tasks(["glue_mnli"], None)] == ["glue_mnli"]


def test_settings_follow_the_configuration_and_actors_change_no_output() -> None:
    config = load(["finetune"], ["evaluate.beam=4", "evaluate.actors=3", "objective.input_length=128"], {})
    settings = Settings.of(config)
    assert (settings.actors, settings.beam, settings.input_length, settings.target_length) == (3, 4, 128, 128)
    assert settings.positions == Settings.of(load(["finetune"], [], {})).positions // 4
    assert (
        settings.identity()
        == Settings.of(load(["finetune"], ["evaluate.beam=4", "objective.input_length=128"], {})).identity()
    )


def test_an_evaluator_decodes_as_the_model_does_alone_or_in_an_ensemble(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {
        "vocab_rows": 40,
        "d_model": 16,
        "d_ff": 20,
        "d_kv": 8,
        "heads": 2,
        "encoder_layers": 1,
        "decoder_layers": 1,
    }
    models = {}
    for seed in (1, 2):
        models[f"run {seed}"] = T5(T5Config(**shape, dropout=0.1))
        initialize(models[f"run {seed}"], seed)
    loaded: list[str] = []

    def restore(source: str, device: object, dtype: object) -> T5:
        loaded.append(source)
        return models[source]

    monkeypatch.setattr(evaluator_module, "restore", restore)
    rows = [np.array([5, 9, 1], np.uint16), np.array([7, 1], np.uint16)]
    inputs = torch.tensor([[5, 9, 1], [7, 1, 0]])
    alone = Evaluator(Settings(1, 0.6, 6, 64, 8))
    members = [models["run 1"].eval(), models["run 2"].eval()]
    assert alone.decode(["run 1"], rows) == greedy(members[0], inputs, max_length=6).tolist()
    assert alone.decode(["run 1"], rows[:1]) == greedy(members[0], inputs[:1], max_length=6).tolist()
    assert loaded == ["run 1"]
    assert alone.decode(["run 1", "run 2"], rows) == greedy(members, inputs, max_length=6).tolist()
    wide = Evaluator(Settings(3, 0.6, 6, 64, 8))
    beams = beam_search(members, inputs, max_length=6, width=3, alpha=0.6)
    assert wide.decode(["run 1", "run 2"], rows) == beams.ids[:, 0].tolist()


def test_following_is_over_when_the_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Within(FakePool):
        def __init__(self, *_: object) -> None:
            super().__init__()

        def __enter__(self) -> "Within":
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("orchestrator.work.Pool", Within)
    evaluation = made(tmp_path, task_in(tmp_path), [point(10)])
    work = Evaluating("a", evaluation, False, follow=True)
    assert work.waiting()
    work.start(None, lambda words: None)
    while work.running:
        time.sleep(0.01)
    assert work.end(Status()).outcome == "done"
    assert not work.waiting()
    assert [result.step for result in kept.read(evaluation.storage)] == [10]
