"""Results at rest and the best checkpoint: by task, and by column where a column's tasks are all there."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.metrics.columns import SUPERGLUE
from data.storage import open_storage
from orchestrator.evaluation import results as kept
from orchestrator.evaluation.results import BEST, RESULTS, Result
from orchestrator.report.scores import content, plain, show


def result(step: int, score: float, task: str = "mine", label: str | None = None, **figures: float) -> Result:
    return Result(
        label or str(step), step, task, "validation", 4, figures or {"accuracy": score}, score,
        {"accuracy": 50.0}, 50.0, {"beam": 1}, {"accuracy": "built in"},
    )  # fmt: skip


def superglue(step: int, score: float) -> list[Result]:
    """All of SuperGLUE's tasks with one figure, but BoolQ's, which goes the other way."""
    tasks = dict.fromkeys(task for unit in SUPERGLUE for task, _ in unit)
    figures = ("accuracy", "f1", "exact_match", "macro_f1")
    found = []
    for task in tasks:
        value = 100 - score if task == "superglue_boolq" else score
        found.append(result(step, value, task, None, **dict.fromkeys(figures, value)))
    return found


def test_the_best_checkpoint_of_a_task_is_the_earliest_of_the_highest_score() -> None:
    found = [result(30, 70.0), result(10, 60.0), result(20, 70.0), result(10, 90.0, "other")]
    assert {name: best.step for name, best in kept.best(found).items()} == {"mine": 20, "other": 10}


def test_a_column_is_chosen_by_its_mean_though_a_task_is_better_elsewhere(tmp_path: Path) -> None:
    found = [*superglue(10, 40.0), *superglue(20, 60.0)]
    assert kept.best(found)["superglue_boolq"].step == 10
    assert kept.best_columns(found)["SGLUE"] == (20, pytest.approx((7 * 60 + 40) / 8))
    kept.write(open_storage(tmp_path), found)
    best = json.loads((tmp_path / BEST).read_text())
    assert best["columns"]["SGLUE"]["step"] == 20
    assert best["tasks"]["superglue_boolq"]["step"] == 10


def test_a_column_that_lacks_a_task_is_not_made() -> None:
    assert kept.best_columns(superglue(10, 40.0)[:-1]) == {}


def test_an_ensemble_is_no_checkpoint_of_the_run() -> None:
    found = [
        *superglue(10, 40.0),
        *[result(10, 99.0, r.task, "ensemble-2-x", **r.results) for r in superglue(10, 99.0)],
    ]
    assert kept.best_columns(found)["SGLUE"][0] == 10
    assert kept.best_columns(found)["SGLUE"][1] < 50


def test_results_come_back_as_they_were_with_columns_beside_them(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    assert kept.read(storage) == []
    found = superglue(10, 40.0)
    kept.write(storage, found)
    assert kept.read(storage) == found
    last = json.loads((tmp_path / RESULTS).read_text().splitlines()[-1])
    assert last["columns"]["SGLUE"] == pytest.approx((7 * 40 + 60) / 8)


def test_the_table_has_the_majority_class_beside_each_score(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[tuple[str, Result]] = [("finetune", result(1000, 81.25)), ("x", result(5, 3.0, label="ensemble-2-ab"))]
    lines = plain(rows).splitlines()
    assert lines[0].split("  ")[0] == "phase"
    assert lines[1].split() == ["finetune", "mine", "1,000", "accuracy", "81.25", "81.25", "50.00"]
    assert "ensemble-2-ab" in lines[2]
    columns: dict[str, Any] = {"finetune": {"SGLUE": 61.5}}
    show(rows, columns, "text")
    assert "finetune: column SGLUE 61.50" in capsys.readouterr().out
    show(rows, columns, "json")
    assert json.loads(capsys.readouterr().out) == content(rows, columns)
