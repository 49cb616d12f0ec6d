"""How long a real run needs from SIGKILL of its worker to the next useful step, and where that time goes.

What can be seen from outside and from the run's own record: `detect`, until the dead worker is gone from its group and
a new worker process exists; `restart`, until that has imported, joined its group and built the model; `load`, until it
holds the newest checkpoint, checked; `first_batch`, the wait for rows of the first step; `first_step`, the rest until
that step is logged.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
from pathlib import Path
from typing import Any

from data.prepare.embedded import prepare_embedded
from data.storage import open_storage
from orchestrator.ledger import Event, read_events
from tests.live import TITLES, LiveRun, descendants, last_step, title

SETTINGS = (
    "model=tiny", "batch.rows=16", "batch.lanes=8", "objective.input_length=64", "log.every=1", "checkpoint.every=10",
    "checkpoint.ephemeral_seconds=null", "evaluate.rows=16", "evaluate.every=1000000",
)  # fmt: skip
BETWEEN = 25
"""Steps between kills."""


def measure(folder: Path, kills: int) -> dict[str, Any]:
    """Medians over `kills` kills of one run, in seconds, and every kill's own numbers."""
    corpus = prepare_embedded(folder / "corpus")
    steps = BETWEEN * (kills + 2)
    run = LiveRun(
        folder / "driver", f"corpus={corpus}", f"storage={folder}", "run=killed", f"steps={steps}",
        f"faults.max_failures={2 * kills}", *SETTINGS,
    )  # fmt: skip
    metrics = folder / "killed" / "metrics.jsonl"
    found = []
    with run.running():
        for number in range(1, kills + 1):
            run.wait_for_step(metrics, BETWEEN * number)
            found.append(_recover(run, folder / "killed"))
        code = run.wait(600)
    names = [name for name in found[0] if name.endswith("_seconds")]
    return {**{name: statistics.median(one[name] for one in found) for name in names}, "kills": found, "code": code}


def _workers(run: LiveRun) -> set[int]:
    assert run.process is not None
    return {pid for pid in descendants(run.process.pid) if TITLES["worker"] in title(pid)}


def _recover(run: LiveRun, folder: Path) -> dict[str, float]:
    """Kill the worker and follow the run until it has logged a step again."""
    before = _workers(run)
    reached = last_step(folder / "metrics.jsonl")
    killed = time.time()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    while not _workers(run) - before:
        _alive(run, killed)
        time.sleep(0.02)
    seen = time.time()
    events: list[Event] = []
    while not any(event["kind"] == "progress" for event in events):
        _alive(run, killed)
        time.sleep(0.2)
        recent = [event for event in read_events(open_storage(folder)) if event["time"] > killed]
        begun = [number for number, event in enumerate(recent) if event["kind"] == "attempt"]
        events = recent[begun[-1] :] if begun else []
    progress = next(event for event in events if event["kind"] == "progress")
    waited = _first_wait(folder, progress["first"])
    load = float(next(event for event in events if event["kind"] == "loaded")["load_seconds"])
    return {
        "detect_seconds": seen - killed,
        "restart_seconds": events[0]["time"] - seen - load,
        "load_seconds": load,
        "first_batch_seconds": waited,
        "first_step_seconds": progress["time"] - events[0]["time"] - waited,
        "total_seconds": progress["time"] - killed,
        "steps_redone": float(reached - events[0]["step"]),
    }


def _alive(run: LiveRun, killed: float) -> None:
    assert run.process is not None
    if run.process.poll() is not None or time.time() - killed > 180:
        raise RuntimeError(f"the run did not come back; its output ends:\n{run.output[-3000:]}")


def _first_wait(folder: Path, step: int) -> float:
    """Seconds that the first step after the restart waited for its rows, as its line of metrics says."""
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        found = json.loads(line)
        if found["step"] == step:
            return float(found["data_wait_seconds"])
    return 0.0
