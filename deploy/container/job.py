"""Entrypoint of a Ray job in a cluster: runs the program and turns its exit code into what KubeRay does next.

0 is success. 1 (failure) and 75 (interrupted, resumable) pass through: the job is FAILED and a RayJob's backoffLimit
starts it again. 2 (wrong configuration) will not get better by repeating, so the job asks Ray to stop it: KubeRay takes
STOPPED for complete and does not retry.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

WRONG_CONFIGURATION = 2
STOP_WAIT_SECONDS = 60.0


def submission_id(environment: Mapping[str, str]) -> str | None:
    """The id under which Ray's job server knows this process, or None outside of a Ray job."""
    try:
        return str(json.loads(environment.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))["metadata"]["job_submission_id"])
    except (KeyError, TypeError, ValueError):
        return None


def stop_job(submission: str) -> None:
    """Ask the cluster's job server to stop the job `submission`."""
    from ray.job_submission import JobSubmissionClient

    JobSubmissionClient().stop_job(submission)


def run(
    command: list[str],
    environment: Mapping[str, str] = os.environ,
    stop: Callable[[str], None] = stop_job,
    wait_seconds: float = STOP_WAIT_SECONDS,
) -> int:
    """Run `command` to its end and return its exit code; signals are left to it (Ray sends them to the whole group)."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # A handler that does nothing, and before the start: the child would inherit SIG_IGN, and an early signal would
        # end this process.
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(command)
    code = child.wait()
    code = 128 - code if code < 0 else code
    submission = submission_id(environment)
    if code == WRONG_CONFIGURATION and submission is not None:
        print("exit code 2: wrong configuration or input; this job is stopped and not tried again", file=sys.stderr)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        stop(submission)
        # Ray marks the job STOPPED only while its process is alive; it ends this one itself.
        time.sleep(wait_seconds)
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:]))
