"""What the readers of published files share: splits of rows, local text files, and which of them are there."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from data.errors import UserError
from data.tasks.files import Row

Splits = Mapping[str, Callable[[], Iterator[Row]]]
"""A reader of rows by split."""

Published = Callable[[Path], Splits]
"""Finds a task's published files in a folder."""


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a text file (`.gz` unpacked), without their ends; only the line feed ends one."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="\n") as text:
            for line in text:
                yield line.removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason}): convert it to UTF-8.") from None


def first_of(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The first of `names` that is a file in `folder`."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def existing(folder: Path, wanted: Mapping[str, tuple[str, ...]]) -> dict[str, Path]:
    """The file of each split that is there, by the names each may have; none at all is refused."""
    found = {split: path for split, names in wanted.items() if (path := first_of(folder, names)) is not None}
    if not found:
        names = ", ".join(name for options in wanted.values() for name in options)
        raise UserError(f"{folder} holds none of {names}: give the folder with the task's published files.")
    return found
