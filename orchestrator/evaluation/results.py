"""`evaluations/results.jsonl`: a line a task and set of weights; the best of them by the column's rule."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from data.metrics.columns import best_steps, columns
from data.storage import Missing, Storage

FOLDER = "evaluations"
RESULTS = f"{FOLDER}/results.jsonl"
BEST = f"{FOLDER}/best.json"


@dataclass(frozen=True)
class Result:
    """A task's figures (percent) for one set of weights, the majority class's beside them (None: free text)."""

    label: str
    step: int
    task: str
    split: str
    examples: int
    results: dict[str, float]
    score: float
    majority: dict[str, float] | None
    majority_score: float | None
    signature: dict[str, Any]
    """What decided the outputs."""
    metrics: dict[str, str] = field(default_factory=dict)
    """Each metric's own signature."""


def read(storage: Storage) -> list[Result]:
    """The results so far, none where nothing was evaluated."""
    try:
        text = storage.read(RESULTS).decode()
    except Missing:
        return []
    lines = [json.loads(line) for line in text.splitlines()]
    return [Result(**line) for line in lines if "task" in line]


def write(storage: Storage, results: Sequence[Result]) -> None:
    """Keep `results`, the columns that they make whole, and the best of both."""
    ordered = sorted(results, key=lambda result: (result.step, result.label))
    lines = [asdict(result) for result in ordered]
    for label in dict.fromkeys(result.label for result in ordered):
        figures = columns({r.task: r.results for r in ordered if r.label == label})
        if figures:
            lines.append({"label": label, "columns": figures})
    storage.write(RESULTS, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
    content = {
        "tasks": {name: asdict(result) for name, result in best(ordered).items()},
        "columns": {name: {"step": step, "score": score} for name, (step, score) in best_columns(ordered).items()},
    }
    storage.write(BEST, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def best(results: Sequence[Result]) -> dict[str, Result]:
    """For each task the result of its best checkpoint by the task's own score; the earliest of equals."""
    found: dict[str, Result] = {}
    for result in sorted(results, key=lambda result: result.step):
        if result.task not in found or result.score > found[result.task].score:
            found[result.task] = result
    return found


def best_columns(results: Sequence[Result]) -> dict[str, tuple[int, float]]:
    """For each column of the study's tables its best checkpoint's step and figure (facts 6.3)."""
    history: dict[int, dict[str, Mapping[str, float]]] = {}
    for result in results:
        if result.label == str(result.step):
            history.setdefault(result.step, {})[result.task] = result.results
    return best_steps(history)
