"""Runs one phase on Ray: reader actors, then a `TorchTrainer` whose workers train; retries what Ray does not."""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from orchestrator.lease import Fence
from orchestrator.readers import Reader
from orchestrator.run import Run
from orchestrator.training.worker import WorkerSpec, train_worker

_STARTUP_RETRIES = 5
_RETRY_SECONDS = 2.0


class PhaseRunner:
    """A phase in a thread of its own. `outcome()` of the scheduler says how it ended; `error` what Ray said, if it did.

    Ray Train retries workers that die, but not errors while a group starts; those are retried here. Its own memory of
    checkpoints and its budget of failures are not used: the scheduler lets groups begin or not, each start has a fresh name, and the run's manifests say where to go on.
    """

    def __init__(self, run: Run, scheduler: Any, fence: Fence, use_gpu: bool) -> None:
        self._run = run
        self._scheduler = scheduler
        self._fence = fence
        self._use_gpu = use_gpu
        reader = ray.remote(Reader).options(
            num_cpus=run.config.readers.cpus, max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD",
            name=f"t5-reader-{run.config.run}-{uuid.uuid4().hex[:8]}",
        )
        self.readers = {number: reader.remote(run.lanes) for number in range(run.readers)}
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._fit, name=f"fit-{run.config.run}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the thread still works."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the readers."""
        for reader in self.readers.values():
            ray.kill(reader)

    def _fit(self) -> None:
        for attempt in range(_STARTUP_RETRIES):
            try:
                self._trainer().fit()
                self.error = None
                return
            except ray.train.TrainingFailedError as error:
                self.error = error
                if not isinstance(error, ray.train.ControllerError):
                    return
            except ray.exceptions.RayError as error:
                self.error = error
            time.sleep(_RETRY_SECONDS * 2**attempt)

    def _trainer(self) -> TorchTrainer:
        config = self._run.config
        low, high = config.worker_range
        resources = {"CPU": float(config.parallel.cpus), **({"GPU": 1.0} if self._use_gpu else {})}
        return TorchTrainer(
            train_worker,
            train_loop_config={"spec": WorkerSpec(self._run, self._scheduler, self.readers, self._fence)},
            scaling_config=ScalingConfig(
                num_workers=low if low == high else (low, high),
                use_gpu=self._use_gpu,
                resources_per_worker=resources,
            ),
            torch_config=TorchConfig(
                backend="cpu:gloo,cuda:nccl" if self._use_gpu else "gloo", timeout_s=config.faults.timeout_seconds
            ),
            run_config=RunConfig(
                name=f"{config.run.replace('/', '-')}-{uuid.uuid4().hex[:8]}",
                storage_path=tempfile.gettempdir() + "/t5-ray-train",
                failure_config=FailureConfig(max_failures=-1),
            ),
        )
