"""The table that evaluations end with: scores, and what always answering the commonest class would get, beside them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator.evaluation.results import Result

_HEADINGS = ("phase", "task", "step", "results", "score", "majority class")
_WIDTH = 120


def show(rows: Sequence[tuple[str, Result]], columns: Mapping[str, Mapping[str, float]], style: str) -> None:
    """Print results with the name of their phase, then the columns of the study's tables by phase.

    `style` json: one object; otherwise a table, drawn on a terminal and plain elsewhere.
    """
    if style == "json":
        print(json.dumps(content(rows, columns), ensure_ascii=False), flush=True)
    elif sys.stdout.isatty():
        Console().print(_table(rows, Table(header_style="bold")))
        print(_column_lines(columns), end="", flush=True)
    else:
        print(plain(rows) + _column_lines(columns), end="", flush=True)


def plain(rows: Sequence[tuple[str, Result]]) -> str:
    """The table in plain characters, for logs."""
    out = io.StringIO()
    Console(file=out, width=_WIDTH, color_system=None).print(_table(rows, Table(box=None, pad_edge=False)))
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def content(rows: Sequence[tuple[str, Result]], columns: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "scores": [
            {
                "phase": phase,
                "task": result.task,
                "step": result.step,
                "label": result.label,
                "split": result.split,
                "examples": result.examples,
                "results": result.results,
                "score": result.score,
                "majority": result.majority,
                "majority_score": result.majority_score,
            }
            for phase, result in rows
        ],
        "columns": {phase: dict(figures) for phase, figures in columns.items()},
    }


def _table(rows: Sequence[tuple[str, Result]], table: Table) -> Table:
    for heading in _HEADINGS:
        table.add_column(heading, justify="right" if heading in ("step", "score", "majority class") else "left")
    for phase, result in rows:
        label = f"{result.step:,}" if result.label == str(result.step) else result.label
        figures = ", ".join(f"{name} {value:.2f}" for name, value in result.results.items())
        beside = "-" if result.majority_score is None else f"{result.majority_score:.2f}"
        table.add_row(phase, result.task, label, figures, f"{result.score:.2f}", beside)
    return table


def _column_lines(columns: Mapping[str, Mapping[str, float]]) -> str:
    lines = [
        f"{phase}: column {name} {value:.2f}\n" for phase, figures in columns.items() for name, value in figures.items()
    ]
    return "".join(lines)
