"""A real run as a child process, for tests that kill parts of it: started, watched by its metrics, ended by its id."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TITLES = {
    "worker": "ray::RayTrainWorker",
    "reader": "ray::Reader",
    "scheduler": "ray::Scheduler",
    "controller": "ray::TrainController",
}
"""Part of the process title of each kind of Ray process that may be killed."""


def parents() -> dict[int, int]:
    """Parent of every process of this machine."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def descendants(pid: int) -> list[int]:
    """All living processes below `pid`."""
    tree: dict[int, list[int]] = {}
    for child, parent in parents().items():
        tree.setdefault(parent, []).append(child)
    below, todo = [], [pid]
    while todo:
        children = tree.get(todo.pop(), [])
        below += children
        todo += children
    return below


def title(pid: int) -> str:
    """The process title, empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


class LiveRun:
    """`python -m orchestrator.<verb>` with arguments; output goes to `<folder>/output-<n>.txt`."""

    def __init__(
        self, folder: Path, *arguments: str, verb: str = "pretrain", env: dict[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.arguments = arguments
        self._verb = verb
        self._env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **(env or {})}
        self._starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def output(self) -> str:
        """What the latest start has printed."""
        return (self.folder / f"output-{self._starts}.txt").read_text()

    def start(self) -> LiveRun:
        """Start, or start again."""
        self._starts += 1
        with (self.folder / f"output-{self._starts}.txt").open("wb") as out:
            command = [sys.executable, "-m", f"orchestrator.{self._verb}", *self.arguments]
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self._env, stdout=out, stderr=subprocess.STDOUT
            )
        return self

    def wait(self, seconds: float = 240) -> int:
        """Exit code; the process is killed, and an error raised, past the limit."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill("driver")
            raise AssertionError(f"not over after {seconds} s; output:\n{self.output[-3000:]}") from None

    def wait_for_step(self, metrics: Path, step: int, seconds: float = 180) -> None:
        """Until `metrics` has a line of `step` or later; an error where the run ends before."""
        assert self.process is not None
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if last_step(metrics) >= step:
                return
            if self.process.poll() is not None:
                raise AssertionError(f"the run ended before step {step}; output:\n{self.output[-3000:]}")
            time.sleep(0.05)
        raise AssertionError(f"step {step} was not reached in {seconds} s; output:\n{self.output[-3000:]}")

    def kill(self, what: str, number: int = signal.SIGKILL, chance: random.Random | None = None) -> bool:
        """Send a signal to the driver or to one process of a kind in `TITLES`; False where there is none."""
        assert self.process is not None
        if what == "driver":
            below = descendants(self.process.pid)
            self.process.send_signal(number)
            if number == signal.SIGKILL:
                self.process.wait(30)
                wait_gone(below)
            return True
        found = sorted(pid for pid in descendants(self.process.pid) if TITLES[what] in title(pid))
        if not found:
            return False
        os.kill((chance or random.Random(0)).choice(found), number)
        return True

    @contextlib.contextmanager
    def running(self) -> Iterator[LiveRun]:
        """Started, and not left behind whatever happens."""
        try:
            yield self.start()
        finally:
            if self.process is not None and self.process.poll() is None:
                self.kill("driver")


def wait_gone(pids: list[int], seconds: float = 30) -> None:
    """Until none of `pids` lives; those that outlast their parent are killed."""
    limit = time.monotonic() + seconds
    while any(title(pid) for pid in pids):
        if time.monotonic() > limit:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.05)


def last_step(metrics: Path) -> int:
    """Step of the last whole line of a metrics file, 0 without one."""
    try:
        lines = metrics.read_text().splitlines()
    except OSError:
        return 0
    return int(json.loads(lines[-1])["step"]) if lines else 0


def summary(folder: Path) -> dict[str, Any]:
    """`summary.json` of a run's folder."""
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_dashboard(ray: str, env: dict[str, str], seconds: float = 90) -> None:
    """Until the job server that `env` names answers."""
    limit = time.monotonic() + seconds
    while True:
        listed = subprocess.run([ray, "job", "list"], env=env, capture_output=True, text=True, timeout=60)
        if listed.returncode == 0:
            return
        if time.monotonic() > limit:
            raise AssertionError(f"no job server after {seconds} s: {listed.stderr[-2000:]}")
        time.sleep(0.5)
