"""Readers of the files in which the study's tasks are published, found by task name in a local folder."""

from __future__ import annotations

from pathlib import Path

from data.errors import UserError
from data.naming import unknown
from data.tasks.generation import TRANSLATIONS
from data.tasks.published import generation, glue, superglue
from data.tasks.published.rows import Splits

__all__ = ["Splits", "published_names", "splits_of"]


def published_names() -> list[str]:
    """The tasks whose published files can be read."""
    return [
        *glue.LAYOUTS,
        *superglue.FOLDERS,
        "superglue_dpr",
        "squad",
        "cnn_dailymail",
        *(f"wmt_{pair}" for pair in TRANSLATIONS),
    ]


def splits_of(task: str, folder: str | Path) -> Splits:
    """Readers of the splits of `task` whose files lie in `folder`."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the one with the published files of {task}.")
    if task in glue.LAYOUTS:
        return glue.splits_of(task, folder)
    if task.startswith("superglue_") and task in published_names():
        return superglue.splits_of(task, folder)
    if task == "squad":
        return generation.squad(folder)
    if task == "cnn_dailymail":
        return generation.stories(folder)
    if task in published_names():
        return generation.translation(task, folder)
    raise unknown("importer for the task", task, published_names())
