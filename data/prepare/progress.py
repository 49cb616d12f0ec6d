"""Progress of the stages: a live bar on a terminal, a few plain lines in a log."""

from __future__ import annotations

import sys
import time
from typing import Protocol, TextIO

_QUIET_SECONDS = 10.0


class Progress(Protocol):
    """What a stage tells while it runs."""

    def start(self, stage: str, total: int, done: int) -> None: ...

    def advance(self) -> None: ...

    def finish(self) -> None: ...


class Silent:
    """Says nothing."""

    def start(self, stage: str, total: int, done: int) -> None:
        pass

    def advance(self) -> None:
        pass

    def finish(self) -> None:
        pass


class Lines:
    """A line when a stage ends, and one every ten seconds while it runs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def start(self, stage: str, total: int, done: int) -> None:
        self._stage, self._total, self._done, self._before = stage, total, done, done
        self._began = self._spoke = time.monotonic()

    def advance(self) -> None:
        self._done += 1
        if time.monotonic() - self._spoke >= _QUIET_SECONDS:
            self._spoke = time.monotonic()
            self._say(f"{self._done} of {self._total} tasks")

    def finish(self) -> None:
        again = f", {self._before} of them before" if self._before else ""
        self._say(f"done, {self._total} tasks{again}, {time.monotonic() - self._began:.1f} s")

    def _say(self, text: str) -> None:
        print(f"prepare: {self._stage}: {text}", file=self._stream, flush=True)


class Bar:
    """One live bar a stage (rich)."""

    def start(self, stage: str, total: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._bar.start()
        self._task = self._bar.add_task(stage, total=total, completed=done)

    def advance(self) -> None:
        self._bar.advance(self._task)

    def finish(self) -> None:
        self._bar.stop()


def terminal_progress() -> Progress:
    """A bar where standard error is a terminal, plain lines elsewhere."""
    return Bar() if sys.stderr.isatty() else Lines(sys.stderr)
