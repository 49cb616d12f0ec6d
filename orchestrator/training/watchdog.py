"""Ends a rank that makes no progress, after telling where it stands: no wait is endless."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType

HUNG = 70
"""Exit code of a rank that its watchdog ended."""
_CHECKS = 20
_COLLECTIVE = ("torch/distributed", "fairscale")
_DEVICE = ("torch/autograd", "orchestrator/training/step.py", "orchestrator/training/held_out.py")
"""Where the innermost call waits for a device, on which the collectives of other ranks may be what does not come."""


class Watchdog:
    """Watches the thread that makes it. `beat` says that it lives; without a beat for `seconds` it is ended.

    `tell` gets the stack of the watched thread, innermost call last, and whether it was waiting in a collective or
    for its device: the rank that hangs is the one that was not, since the others wait for it.
    """

    def __init__(
        self,
        seconds: float,
        tell: Callable[[str, bool], None],
        end: Callable[[int], None] = os._exit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._tell, self._end, self._clock = seconds, tell, end, clock
        self._watched = threading.get_ident()
        self._beat = clock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def beat(self) -> None:
        """Progress was made."""
        self._beat = self._clock()

    def check(self) -> bool:
        """Whether the thread still makes progress; tells and ends otherwise."""
        if self._clock() - self._beat < self._seconds:
            return True
        frame = sys._current_frames().get(self._watched)
        stack = traceback.extract_stack(frame)
        waiting = any(part in entry.filename for entry in stack[-6:] for part in _COLLECTIVE)
        waiting = waiting or any(part in stack[-1].filename for part in _DEVICE)
        faulthandler.dump_traceback(all_threads=True)
        try:
            self._tell("".join(traceback.format_list(stack[-12:])), waiting)
        finally:
            self._end(HUNG)
        return False

    def _run(self) -> None:
        while not self._stop.wait(self._seconds / _CHECKS):
            if not self.check():
                return
