"""What Kubernetes runs before it ends a pod: asks the training driver in it to save, and waits until it has.

KubeRay deletes clusters (suspend, retry, eviction of the head) without stopping the job first. SIGTERM to the driver
makes it write a checkpoint and leave with exit code 75, which a RayJob retries; `ray job stop` would do too much, since
a STOPPED job counts as complete. Pods without a driver return at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

VERBS = tuple(f"orchestrator.{verb}" for verb in ("pretrain", "finetune", "evaluate", "experiment"))


def drivers(proc: Path = Path("/proc")) -> Iterator[int]:
    """Process ids of `python -m orchestrator.<verb>`, but not of the job.py or shell that started them."""
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        # The interpreter's own arguments alone: job.py and shells carry the same words further back.
        if arguments[1:2] == ["-m"] and arguments[2] in VERBS:
            yield int(entry.name)


def alive(process: int) -> bool:
    """Whether `process` still runs (a zombie does not)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main(seconds: float) -> int:
    """Signal every driver once and wait up to `seconds` for all; returns 1 if one is left."""
    waiting = list(drivers())
    for process in waiting:
        os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while waiting and time.monotonic() < deadline:
        time.sleep(0.2)
        waiting = [process for process in waiting if alive(process)]
    return 1 if waiting else 0


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=float, required=True, help="longest wait")
    sys.exit(main(arguments.parse_args().seconds))
