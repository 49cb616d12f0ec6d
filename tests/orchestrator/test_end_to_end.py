"""The main job as users run it: killed in every part and resumed, on other numbers of workers, stopped, submitted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.prepare.embedded import prepare_embedded
from tests.live import ROOT, LiveRun, free_port, summary, wait_for_dashboard

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

STEPS = 24


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the embedded corpus in it."""
    folder = tmp_path_factory.mktemp("end-to-end")
    prepare_embedded(folder / "corpus")
    return folder


def arguments(base: Path, run: str, *more: str) -> list[str]:
    """A run small enough that starting Ray is most of it; at a higher rate rounding alone drives runs apart."""
    return [
        f"run={run}", f"storage={base}", f"corpus={base / 'corpus'}", f"steps={STEPS}", "objective.input_length=48",
        "batch.rows=8", "batch.lanes=4", "options.dropout=0.1", "checkpoint.every=6", "log.every=1", "evaluate.rows=16",
        "readers.ahead_steps=2", "schedule.rate=0.02", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(base: Path) -> Path:
    """The folder of a run that nothing happened to."""
    run = LiveRun(base / "driver-undisturbed", *arguments(base, "undisturbed"))
    with run.running():
        assert run.wait() == 0, run.output
    return base / "undisturbed"


def losses(folder: Path) -> dict[int, float]:
    """Training loss by step."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines}


def test_a_run_killed_in_every_part_ends_with_the_same_bits(base: Path, undisturbed: Path) -> None:
    run = LiveRun(base / "driver-killed", *arguments(base, "killed"))
    metrics = base / "killed" / "metrics.jsonl"
    with run.running():
        run.wait_for_step(metrics, 3)
        assert run.kill("reader")
        run.wait_for_step(metrics, 7)
        assert run.kill("worker")
        run.wait_for_step(metrics, 13)
        assert run.kill("scheduler")
        run.wait_for_step(metrics, 15)
        run.kill("driver")
    with run.running():
        assert run.wait() == 0, run.output
    assert summary(base / "killed")["parameters_sha256"] == summary(undisturbed)["parameters_sha256"]
    assert losses(base / "killed") == losses(undisturbed)
    page = run.output
    assert "training after step" in page
    assert "Held-out loss" in page


def test_workers_change_rounding_alone_and_sigterm_saves_first(base: Path, undisturbed: Path) -> None:
    run = LiveRun(base / "driver-two", *arguments(base, "two", "workers=2", "readers.count=2"))
    with run.running():
        run.wait_for_step(base / "two" / "metrics.jsonl", 9)
        run.kill("driver", signal.SIGTERM)
        assert run.wait() == 75, run.output
    stopped = max(losses(base / "two"))
    assert any(f"step-{stopped:09d}" in folder.name for folder in (base / "two" / "checkpoints").iterdir())
    run.arguments = tuple(arguments(base, "two", "workers=1"))
    with run.running():
        assert run.wait() == 0, run.output
    found, expected = losses(base / "two"), losses(undisturbed)
    assert found.keys() == expected.keys()
    for step, loss in expected.items():
        # Other rows would show as tenths.
        assert found[step] == pytest.approx(loss, abs=1e-4), step
    assert f"training after step {stopped}" in run.output


def test_another_configuration_is_refused_before_ray_starts(base: Path, undisturbed: Path) -> None:
    run = LiveRun(base / "driver-other", *arguments(base, "undisturbed", "objective.density=0.3"))
    with run.running():
        assert run.wait(60) == 2
    assert "config.objective.density: 0.15 in the checkpoint, 0.3 now" in run.output
    assert "training" not in run.output


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: Ray's sockets lie in it, and their paths have a limit of 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="t5-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_a_submitted_job_streams_its_progress_and_its_exit_code(base: Path, tmp_path: Path, short: Path) -> None:
    env = {**os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t" * 32}
    ray = str(Path(sys.executable).with_name("ray"))
    port, dashboard = free_port(), free_port()
    head = subprocess.Popen(
        [ray, "start", "--head", f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=3", "--block",
         f"--temp-dir={short}", "--object-store-memory=200000000"],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    env["RAY_ADDRESS"] = f"http://127.0.0.1:{dashboard}"
    entry = [sys.executable, "-m", "orchestrator.pretrain", *arguments(base, "submitted", "steps=6")]
    try:
        wait_for_dashboard(ray, env)
        job = subprocess.run(
            [ray, "job", "submit", "--working-dir", str(ROOT), "--", *entry], env=env, capture_output=True, text=True,
            timeout=240,
        )  # fmt: skip
        assert job.returncode == 0, job.stdout[-3000:] + job.stderr[-3000:]
        assert "step 6/6" in job.stdout
        wrong = subprocess.run(
            [ray, "job", "submit", "--working-dir", str(ROOT), "--", *entry, "stepz=3"], env=env, capture_output=True,
            text=True, timeout=240,
        )  # fmt: skip
        assert wrong.returncode != 0
        assert "did you mean steps?" in wrong.stdout + wrong.stderr
    finally:
        head.terminate()
        head.wait(60)
    assert summary(base / "submitted")["steps"] == 6
