"""A rank that makes no progress is told of with its stack, and ended."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from orchestrator.training.watchdog import HUNG, Watchdog
from tests.live import ROOT

HANGING = """
import threading
from orchestrator.training.watchdog import Watchdog

def the_place_where_it_hangs():
    threading.Event().wait()

with Watchdog(0.5, lambda stack, waiting: print(stack, waiting, flush=True)):
    the_place_where_it_hangs()
"""


class Clock:
    """Time that moves when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_keeps_a_rank_alive_and_its_lack_ends_it() -> None:
    told: list[tuple[str, bool]] = []
    ended: list[int] = []
    clock = Clock()
    watchdog = Watchdog(10, lambda stack, waiting: told.append((stack, waiting)), ended.append, clock)
    clock.now = 9
    assert watchdog.check()
    watchdog.beat()
    clock.now = 18
    assert watchdog.check()
    clock.now = 19
    assert not watchdog.check()
    assert ended == [HUNG]
    assert "test_progress_keeps_a_rank_alive" in told[0][0]
    assert not told[0][1]


@pytest.mark.parametrize(
    ("file", "waits"),
    [("orchestrator/training/step.py", True), ("torch/autograd/graph.py", True), ("torch/distributed/x.py", True),
     ("orchestrator/readers.py", False), ("ray/_private/worker.py", False)],
)  # fmt: skip
def test_who_waits_for_a_device_or_a_collective_is_told_from_who_hangs(file: str, waits: bool) -> None:
    told: list[bool] = []
    clock, met = Clock(), threading.Barrier(2)
    release = threading.Lock()
    release.acquire()
    made: list[Watchdog] = []

    def work() -> None:
        made.append(Watchdog(10, lambda stack, waiting: told.append(waiting), lambda code: None, clock))
        place = {"wait": release.acquire, "met": met.wait}
        exec(compile("met()\nwait()", f"/somewhere/{file}", "exec"), place)

    thread = threading.Thread(target=work)
    thread.start()
    met.wait(60)
    while "/somewhere/" not in _innermost(thread):
        time.sleep(0.001)
    clock.now = 11
    made[0].check()
    release.release()
    thread.join()
    assert told == [waits]


def _innermost(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return "" if frame is None else frame.f_code.co_filename


def test_it_stops_with_its_block() -> None:
    before = threading.active_count()
    with Watchdog(60, lambda stack, waiting: None):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_a_hanging_process_names_the_place_and_ends() -> None:
    found = subprocess.run([sys.executable, "-c", HANGING], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert found.returncode == HUNG
    assert "the_place_where_it_hangs" in found.stdout
    assert "the_place_where_it_hangs" in found.stderr
