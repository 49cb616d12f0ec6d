"""A run from S3 to S3 on a cluster of processes: the head is killed, started again, and the run goes on to its end."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.storage import LocalStorage
from orchestrator.ledger import read_events
from tests.deploy.manifests import ROOT
from tests.deploy.test_image import tool

STEPS = 120
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


def wait_for_checkpoint(folder: Path, run: str) -> None:
    deadline = time.monotonic() + 300
    while not committed(folder, run) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert committed(folder, run), (folder / "head.log").read_text()[-2000:]


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
    assert before <= int(str(start["step"])) < STEPS
    assert committed(folder, "killed")[-1] == STEPS
    steps = [int(str(line["step"])) for line in lines if line["kind"] == "metrics"]
    assert steps == sorted(set(steps))
    assert min(steps) > int(str(start["step"]))
    assert max(steps) == STEPS


def test_an_elastic_run_goes_on_without_a_lost_node(folder: Path) -> None:
    # A node has room for one worker of two CPUs and a reader: losing it leaves room for one worker.
    cluster(folder, "up", "--workers", "2", "--cpus", "3")
    prepare_corpus(folder)
    submit(folder, "elastic", ["run=elastic", "workers=1..2", "parallel.cpus=2"], "--no-wait")
    wait_for_checkpoint(folder, "elastic")
    cluster(folder, "kill", "worker-2")
    assert committed(folder, "elastic")[-1] < STEPS, "the run was over before the node was lost; raise STEPS"
    deadline = time.monotonic() + 400
    while committed(folder, "elastic")[-1] < STEPS and time.monotonic() < deadline:
        time.sleep(0.5)
    assert committed(folder, "elastic")[-1] == STEPS
    events = read_events(LocalStorage(folder / "s3" / "t5" / "runs" / "elastic"))
    worlds = [event["world"] for event in events if event["kind"] == "attempt" and event["go"]]
    assert worlds[0] == 2
    assert worlds[-1] == 1
