"""The two places of the soak: one machine with Ray in the driver's own processes, and a local cluster with S3."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any

from data.prepare.embedded import prepare_embedded
from tests.live import ROOT, TITLES, LiveRun, descendants, title

SETTINGS = (
    "objective.input_length=128", "batch.rows=32", "batch.lanes=8", "options.dropout=0.1", "checkpoint.every=5",
    "checkpoint.ephemeral_seconds=null", "log.every=1", "evaluate.rows=16", "evaluate.every=1000000",
    "readers.ahead_steps=2", "readers.count=2",
)  # fmt: skip
"""Steps that take long enough for a kill to meet a run at work; checkpoints come more often than kills."""
TRIES = 4
"""Starts of Ray, and submissions of a job, on a machine that may be too busy for them."""


class LocalPlace:
    """Everything below one driver process, on disk."""

    parts: tuple[str, ...] = ("driver", "scheduler", "reader", "worker")

    def __init__(self, folder: Path, kills: int) -> None:
        self._folder = folder
        self._common = (
            f"storage={folder}", f"corpus={prepare_embedded(folder / 'corpus')}", *SETTINGS,
            f"faults.max_failures={kills + 1}",
        )  # fmt: skip
        self._runs: dict[str, LiveRun] = {}
        self._run: LiveRun | None = None

    def start(self, run: str, steps: int) -> None:
        if run not in self._runs:
            self._runs[run] = LiveRun(self._folder / f"driver-{run}", *self._common, f"run={run}", f"steps={steps}")
        self._run = self._runs[run].start()

    def code(self) -> int | None:
        assert self._run is not None
        assert self._run.process is not None
        return self._run.process.poll()

    def kill(self, part: str, chance: random.Random) -> bool:
        assert self._run is not None
        return self._run.kill(part, chance=chance)

    def folder(self, run: str) -> Path:
        return self._folder / run

    def output(self) -> str:
        return "" if self._run is None else self._run.output

    def close(self) -> None:
        if self._run is not None and self.code() is None:
            self._run.kill("driver")


class ClusterPlace:
    """A head, two worker nodes and an S3 server; the run is a submitted job and reads and writes S3."""

    parts: tuple[str, ...] = ("driver", "scheduler", "reader", "worker", "node", "head", "s3")
    workers = 2

    def __init__(self, folder: Path, kills: int) -> None:
        self._cluster = program().Cluster(folder / "cluster")
        self._folder = folder
        self._bucket = self._cluster.folder / "s3" / "t5"
        prepare_embedded(self._bucket / "corpus")
        self._common = (
            "storage=s3://t5/runs", "corpus=s3://t5/corpus", *SETTINGS, f"faults.max_failures={kills + 1}",
            "log.format=json",
        )  # fmt: skip
        self._starts = self._submitted = 0
        self._arguments: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        # What a soak that was killed outright has left here must not train beside this one.
        self._cluster.down()
        self._up()

    def start(self, run: str, steps: int) -> None:
        self._arguments, self._submitted = (*self._common, f"run={run}", f"steps={steps}"), 0
        self._submit()

    def _submit(self) -> None:
        self._up()
        self._starts += 1
        self._submitted += 1
        command = [
            str(Path(sys.executable).with_name("ray")), "job", "submit", "--submission-id", uuid.uuid4().hex,
            "--working-dir", str(ROOT), "--", "python", "-m", "orchestrator.pretrain", *self._arguments,
        ]  # fmt: skip
        environment = {**os.environ, **self._cluster.state.environment()}
        with (self._folder / f"output-{self._starts}.txt").open("wb") as out:
            self._process = subprocess.Popen(
                command, env=environment, cwd=self._folder, stdout=out, stderr=subprocess.STDOUT
            )

    def code(self) -> int | None:
        assert self._process is not None
        code = self._process.poll()
        if code and self._submitted < TRIES and not was_submitted(self.output()):
            # No run has ended: there was none. A job server that has just come back refuses jobs for a while.
            self._submit()
            return None
        return code

    def kill(self, part: str, chance: random.Random) -> bool:
        processes: dict[str, int] = self._cluster.state.processes
        if part in ("node", "head", "s3"):
            name = f"worker-{chance.randint(1, self.workers)}" if part == "node" else part
            self._cluster.end(name, signal.SIGKILL)
            self._up()
            if part == "head":
                self._await_end()
            return True
        wanted = "orchestrator.pretrain" if part == "driver" else TITLES[part]
        below = sorted({pid for top in processes.values() for pid in descendants(top)})
        found = [pid for pid in below if wanted in title(pid) and "job submit" not in title(pid)]
        if part == "driver":
            # The job's shell bears the same words; the program itself is the last of that line.
            found = found[-1:]
        if not found:
            return False
        os.kill(chance.choice(found), signal.SIGKILL)
        if part == "driver":
            self._await_end()
        return True

    def folder(self, run: str) -> Path:
        return self._bucket / "runs" / run

    def output(self) -> str:
        return (self._folder / f"output-{self._starts}.txt").read_text(errors="replace")

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        self._cluster.down()

    def _up(self) -> None:
        for left in reversed(range(TRIES)):
            try:
                self._cluster.up(self.workers, 3)
                return
            except SystemExit as error:
                if isinstance(error.code, int):
                    raise
                if not left:
                    raise RuntimeError(f"the cluster did not start in {TRIES} tries: {error}") from None
                self._end_silent()

    def _end_silent(self) -> None:
        """End nodes that do not belong to the cluster: on a busy machine one may start too slowly, and keeps its
        ports."""
        there = self._cluster.nodes()
        hosts = [("head", self._cluster.state.head)]
        hosts += [(f"worker-{n}", f"{self._cluster.state.network}.{11 + n}") for n in range(1, self.workers + 1)]
        for name, address in hosts:
            if address not in there:
                self._cluster.end(name, signal.SIGKILL)

    def _await_end(self) -> None:
        """Until the client of a job that is lost has noticed; it is ended where it never does."""
        assert self._process is not None
        limit = time.monotonic() + 60
        while self._process.poll() is None and time.monotonic() < limit:
            time.sleep(0.1)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)


def was_submitted(output: str) -> bool:
    """Whether the job server took the job, as `ray job submit` says."""
    return "submitted successfully" in output


def program() -> ModuleType:
    """`deploy/local_cluster.py`, which is a script and no package."""
    spec: Any = importlib.util.spec_from_file_location("local_cluster", ROOT / "deploy" / "local_cluster.py")
    made = importlib.util.module_from_spec(spec)
    sys.modules["local_cluster"] = made
    spec.loader.exec_module(made)
    return made
