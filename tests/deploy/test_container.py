"""What runs inside the pods: exit codes turned into retries, and the save before a pod ends."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.deploy.manifests import ROOT


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "deploy" / "container" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


IN_A_JOB = {"RAY_JOB_CONFIG_JSON_ENV_VAR": '{"metadata": {"job_submission_id": "t5-abc"}}'}


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize("code", [0, 1, 2, 75])
def test_only_a_wrong_configuration_stops_the_job(code: int) -> None:
    stopped: list[str] = []
    command = [sys.executable, "-c", f"raise SystemExit({code})"]
    assert module("job").run(command, IN_A_JOB, stopped.append, wait_seconds=0) == code
    assert stopped == (["t5-abc"] if code == 2 else [])


@pytest.mark.usefixtures("_signals")
def test_outside_of_ray_nothing_is_stopped() -> None:
    stopped: list[str] = []
    assert module("job").run([sys.executable, "-c", "raise SystemExit(2)"], {}, stopped.append, wait_seconds=0) == 2
    assert module("job").run(["/bin/sh", "-c", "kill -KILL $$"], {}, stopped.append) == 128 + signal.SIGKILL
    assert stopped == []


def test_a_signal_to_the_group_leaves_the_exit_code_to_the_program(tmp_path: Path) -> None:
    """`ray job stop` signals every process of the job: job.py must outlive the driver that saves."""
    ready = tmp_path / "ready"
    driver = (
        "import signal, sys, time, pathlib\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)\n"
    )
    job = subprocess.Popen(
        [sys.executable, str(ROOT / "deploy/container/job.py"), "--", sys.executable, "-c", driver],
        start_new_session=True, env={key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
    )
    deadline = time.monotonic() + 30
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait(timeout=30) == 75


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A stand-in for `python -m orchestrator.pretrain` that saves when it is told to end."""
    package = tmp_path / "orchestrator"
    package.mkdir()
    (package / "__init__.py").touch()
    saved = tmp_path / "saved"
    (package / "pretrain.py").write_text(
        "import signal, sys, time, pathlib\n"
        "def save(*_):\n"
        f"    pathlib.Path({str(saved)!r}).write_text('checkpoint')\n"
        "    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-m", "orchestrator.pretrain"], cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    yield process, saved
    process.kill()
    process.wait()


def test_prestop_saves_and_waits(
    driver: tuple[subprocess.Popen[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, saved = driver
    prestop = module("prestop")
    assert process.pid in set(prestop.drivers())
    # Other runs on this machine are none of this test's.
    monkeypatch.setattr(prestop, "drivers", lambda: iter([process.pid]))
    assert prestop.main(30) == 0
    assert saved.read_text() == "checkpoint"
    assert process.wait(timeout=10) == 75


def test_prestop_without_a_driver_returns_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prestop = module("prestop")
    (tmp_path / "17").mkdir()
    words = ["python", "job.py", "--", "python", "-m", "orchestrator.pretrain"]
    (tmp_path / "17" / "cmdline").write_bytes("\0".join(words).encode())
    (tmp_path / "18").mkdir()
    assert list(prestop.drivers(tmp_path)) == []
    (tmp_path / "18" / "cmdline").write_bytes(b"python\0-m\0orchestrator.experiment\0--config\0a.yaml\0")
    assert list(prestop.drivers(tmp_path)) == [18]
    monkeypatch.setattr(prestop, "drivers", lambda: iter(()))
    assert prestop.main(60) == 0


def test_prestop_gives_up_in_time(
    driver: tuple[subprocess.Popen[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, _ = driver
    prestop = module("prestop")
    monkeypatch.setattr(prestop, "drivers", lambda: iter([process.pid]))
    monkeypatch.setattr(prestop.os, "kill", lambda *_: None)
    assert prestop.main(0.3) == 1
