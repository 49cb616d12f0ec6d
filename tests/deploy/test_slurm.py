"""The Slurm script with stand-ins for Slurm and Ray: what it starts where, and what it does with each exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.deploy.manifests import ROOT
from tests.deploy.test_image import tool

SCRIPT = ROOT / "deploy" / "slurm.sh"

# Each stand-in writes its command line to a log; `ray start` stays until it is ended, as `--block` does.
STAND_INS = {
    "scontrol": 'echo "scontrol $*" >> "$LOG"\nif [ "$1" = show ]; then printf "n1\\nn2\\nn3\\n"; fi\n',
    "srun": (
        'echo "srun $*" >> "$LOG"\n'
        'case "$*" in *"hostname --ip-address"*) echo "10.0.0.1 fe80::1";; *) exec sleep 60;; esac\n'
    ),
    "ray": 'echo "ray $*" >> "$LOG"\n',
}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """Environment of a job on three nodes, with stand-ins first on PATH."""
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    for name, text in STAND_INS.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}")
        (folder / name).chmod(0o755)
    return {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "LOG": str(tmp_path / "log"),
        "T5_VENV": str(tmp_path / "venv"),
        "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_JOB_ID": "4711", "SLURM_CPUS_PER_TASK": "88", "SLURM_GPUS_ON_NODE": "8",
    }


def driver(environment: dict[str, str], text: str) -> None:
    """Let `python -m orchestrator.pretrain ...` be this shell text; other uses of python stay."""
    path = Path(environment["T5_VENV"]) / "bin" / "python"
    path.write_text(
        '#!/bin/bash\nif [ "$1" = -c ]; then exec python3 "$@"; fi\n'
        f'echo "python $* RAY_ADDRESS=$RAY_ADDRESS token=${{#RAY_AUTH_TOKEN}}" >> "$LOG"\n{text}\n'
    )
    path.chmod(0o755)


def run(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    done = subprocess.run(["bash", str(SCRIPT), *arguments], env=environment, timeout=60, check=False)
    return done.returncode, Path(environment["LOG"]).read_text()


def test_shellcheck() -> None:
    done = subprocess.run([tool("shellcheck"), str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_head_workers_and_driver(slurm: dict[str, str]) -> None:
    # The stand-ins run at the same time; the driver's waits until both have written their line.
    driver(slurm, 'while [ "$(grep -c "ray start" "$LOG")" -lt 2 ]; do sleep 0.05; done')
    code, log = run(slurm, "--config", "final", "model=3B")
    assert code == 0
    starts = [line for line in log.splitlines() if "ray start" in line]
    head, workers = sorted(starts, key=lambda line: "--head" not in line)
    assert "--nodelist=n1" in head
    assert "--head --node-ip-address=10.0.0.1 --port=24711" in head
    assert "--nodes=2 --ntasks=2 --ntasks-per-node=1 --exclude=n1" in workers
    assert "--address=10.0.0.1:24711" in workers
    assert all("--num-cpus=88 --num-gpus=8" in line for line in (head, workers))
    assert "python -m orchestrator.pretrain --config final model=3B RAY_ADDRESS=10.0.0.1:24711 token=64" in log
    assert "requeue" not in log


@pytest.mark.parametrize(("code", "requeued"), [(1, False), (2, False), (75, True)])
def test_only_an_interrupted_run_goes_back_into_the_queue(slurm: dict[str, str], code: int, requeued: bool) -> None:
    driver(slurm, f"exit {code}")
    assert run(slurm)[0] == code
    assert ("scontrol requeue 4711" in Path(slurm["LOG"]).read_text()) is requeued


def test_the_time_limit_saves_first(slurm: dict[str, str]) -> None:
    driver(slurm, 'trap "echo saved >> $LOG; exit 75" TERM\ntouch "$HOME/ready"\nwhile :; do sleep 0.1; done')
    job = subprocess.Popen(["bash", str(SCRIPT)], env=slurm)
    deadline = time.monotonic() + 30
    while not (Path(slurm["HOME"]) / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=30) == 75
    lines = Path(slurm["LOG"]).read_text().splitlines()
    assert lines[-2:] == ["saved", "scontrol requeue 4711"]
