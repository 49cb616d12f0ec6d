"""A run from S3 to S3 on a cluster of processes: the head is killed, started again, and the run goes on to its end."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data.storage import LocalStorage
from orchestrator.checkpoint import newest
from orchestrator.ledger import read_events
from orchestrator.report.summary import finished_steps
from tests.deploy.manifests import ROOT
from tests.deploy.test_image import tool
from tests.plain import train

STEPS = 300
PROGRAM = [sys.executable, str(ROOT / "deploy" / "local_cluster.py")]
COMMAND = [
    "python", "-m", "orchestrator.pretrain", "storage=s3://t5/runs", "corpus=s3://t5/corpus", f"steps={STEPS}",
    "checkpoint.every=15", "checkpoint.ephemeral_seconds=null", "log.format=json", "log.every=10", "batch.rows=16",
    "objective.input_length=64", "evaluate.rows=16",
]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    tool("rclone")
    place = tmp_path / "cluster"
    yield place
    subprocess.run([*PROGRAM, "--folder", str(place), "down"], check=True, timeout=120)


def cluster(folder: Path, *arguments: str) -> None:
    subprocess.run([*PROGRAM, "--folder", str(folder), *arguments], check=True, timeout=400)


def environment(folder: Path) -> dict[str, str]:
    """This process's variables and those that `env` prints."""
    done = subprocess.run([*PROGRAM, "--folder", str(folder), "env"], check=True, capture_output=True, text=True)
    words = [shlex.split(line)[1] for line in done.stdout.splitlines()]
    return os.environ | dict(word.split("=", 1) for word in words)


def submit(folder: Path, name: str, overrides: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [tool("ray"), "job", "submit", "--submission-id", name, "--working-dir", str(ROOT), *options, "--"]
    return subprocess.run(
        [*command, *COMMAND, *overrides], env=environment(folder), cwd=folder,
        capture_output=True, text=True, timeout=600, check=False,
    )


def committed(folder: Path, run: str) -> list[int]:
    """Steps of the checkpoints that are whole, read from the S3 server's own folder."""
    found = (folder / "s3" / "t5" / "runs" / run / "checkpoints").glob("step-*/manifest.json")
    return sorted(int(path.parent.name.split("-")[1]) for path in found)


def objects(output: str) -> list[dict[str, object]]:
    """The run's own lines, one JSON object each."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def wait_for(condition: Callable[[], bool], folder: Path, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, (folder / "head.log").read_text()[-2000:]
        time.sleep(0.2)


def wait_for_checkpoint(folder: Path, run: str) -> None:
    wait_for(lambda: bool(committed(folder, run)), folder)


def prepare_corpus(folder: Path) -> None:
    command = [sys.executable, "-m", "data.prepare", "embedded", "--output", "s3://t5/corpus"]
    subprocess.run(command, env=environment(folder), cwd=ROOT, check=True, timeout=200)


def test_head_killed_and_started_again(folder: Path) -> None:
    cluster(folder, "up", "--workers", "2", "--cpus", "2")
    prepare_corpus(folder)
    run = ["run=killed", "workers=2"]
    first = submit(folder, "first", run, "--no-wait")
    assert first.returncode == 0, first.stdout + first.stderr
    wait_for_checkpoint(folder, "killed")

    cluster(folder, "kill", "head")
    before = committed(folder, "killed")[-1]
    assert before < STEPS, "the run was over before the head was killed; raise STEPS"
    cluster(folder, "up", "--workers", "2", "--cpus", "2")

    second = submit(folder, "second", run)
    assert second.returncode == 0, second.stdout[-4000:] + second.stderr[-2000:]
    lines = objects(second.stdout)
    (start,) = [line for line in lines if line["kind"] == "attempt"]
    # Workers on other nodes train on until they miss the head, and save; on a fast machine they may come to the end.
    assert before <= int(str(start["step"])) <= STEPS
    assert all(int(str(line["step"])) > int(str(start["step"])) for line in lines if line["kind"] == "metrics")
    assert committed(folder, "killed")[-1] == STEPS
    logged = (folder / "s3" / "t5" / "runs" / "killed" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in logged]
    assert [step for step in steps if step % 10 == 0] == list(range(10, STEPS + 1, 10))


def worlds(folder: Path, run: str) -> list[int]:
    """How many workers each group had that was let begin."""
    events = read_events(LocalStorage(folder / "s3" / "t5" / "runs" / run))
    return [event["world"] for event in events if event["kind"] == "attempt" and event["go"]]


def test_an_elastic_run_goes_on_without_lost_nodes_and_takes_a_new_one_in(folder: Path) -> None:
    # A node has room for one worker of two CPUs and a reader: 3 workers, 1 when two nodes are lost, 2 when one comes.
    steps = 160
    settings = ["parallel.cpus=2", f"steps={steps}", "batch.rows=64", "checkpoint.every=10"]
    # At a high rate rounding alone drives runs apart within these steps.
    settings += ["workers=1..3", "schedule.rate=0.005"]
    cluster(folder, "up", "--workers", "3", "--cpus", "3")
    prepare_corpus(folder)
    submit(folder, "elastic", ["run=elastic", *settings, "faults.grow_seconds=1"], "--no-wait")
    wait_for_checkpoint(folder, "elastic")
    cluster(folder, "kill", "worker-2")
    cluster(folder, "kill", "worker-3")
    wait_for(lambda: worlds(folder, "elastic")[-1] == 1, folder)
    cluster(folder, "up", "--workers", "2", "--cpus", "3")
    assert committed(folder, "elastic")[-1] < steps, "the run was over before a node joined; raise `steps`"

    local = [f"corpus={folder / 's3' / 't5' / 'corpus'}", f"storage={folder}", "parallel.cpus=1"]
    plain = train([*(word for word in COMMAND[3:] if not word.startswith(("corpus=", "storage="))), *settings, *local])
    wait_for(lambda: committed(folder, "elastic")[-1] == steps, folder)
    found = worlds(folder, "elastic")
    assert (found[0], found[-1]) == (3, 2), found
    storage = LocalStorage(folder / "s3" / "t5" / "runs" / "elastic")
    wait_for(lambda: finished_steps(storage) == steps, folder)
    lines = [json.loads(line) for line in storage.read("metrics.jsonl").splitlines()]
    assert plain.differs(lines, 1e-4) == []
    checkpoint = newest(storage)
    assert checkpoint is not None
    lanes = checkpoint.manifest.payload["scattered"]
    assert {f"lane/{lane}": cursor for lane, cursor in plain.cursors.items()} == lanes
