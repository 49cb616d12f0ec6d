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

from tests.deploy.manifests import ROOT
from tests.deploy.test_image import tool

STEPS = 120
PROGRAM = [sys.executable, str(ROOT / "deploy" / "local_cluster.py")]
COMMAND = [
    "python", "-m", "orchestrator.pretrain", "storage=s3://t5/runs", "corpus=s3://t5/corpus", "run=killed",
    "workers=2", f"steps={STEPS}",
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


def submit(folder: Path, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [tool("ray"), "job", "submit", "--submission-id", name, "--working-dir", str(ROOT), *options, "--"]
    return subprocess.run(
        [*command, *COMMAND], env=environment(folder), cwd=folder,
        capture_output=True, text=True, timeout=600, check=False,
    )


def committed(folder: Path) -> list[int]:
    """Steps of the checkpoints that are whole, read from the S3 server's own folder."""
    found = (folder / "s3" / "t5" / "runs" / "killed" / "checkpoints").glob("step-*/manifest.json")
    return sorted(int(path.parent.name.split("-")[1]) for path in found)


def objects(output: str) -> list[dict[str, object]]:
    """The run's own lines, one JSON object each."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_head_killed_and_started_again(folder: Path) -> None:
    cluster(folder, "up", "--workers", "2", "--cpus", "2")
    prepared = [sys.executable, "-m", "data.prepare", "embedded", "--output", "s3://t5/corpus"]
    subprocess.run(prepared, env=environment(folder), cwd=ROOT, check=True, timeout=200)
    first = submit(folder, "first", "--no-wait")
    assert first.returncode == 0, first.stdout + first.stderr
    deadline = time.monotonic() + 300
    while not committed(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert committed(folder), (folder / "head.log").read_text()[-2000:]

    cluster(folder, "kill", "head")
    before = committed(folder)[-1]
    assert before < STEPS, "the run was over before the head was killed; raise STEPS"
    cluster(folder, "up", "--workers", "2", "--cpus", "2")

    second = submit(folder, "second")
    assert second.returncode == 0, second.stdout[-4000:] + second.stderr[-2000:]
    lines = objects(second.stdout)
    (start,) = [line for line in lines if line["kind"] == "attempt"]
    assert before <= int(str(start["step"])) < STEPS
    assert committed(folder)[-1] == STEPS
    steps = [int(str(line["step"])) for line in lines if line["kind"] == "metrics"]
    assert steps == sorted(set(steps))
    assert min(steps) > int(str(start["step"]))
    assert max(steps) == STEPS
