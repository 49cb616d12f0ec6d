"""Runs one phase on Ray: reader actors, then a `TorchTrainer` whose workers train; retries what Ray does not."""

from __future__ import annotations

import math
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
    """A phase in a thread of its own; the scheduler knows how it ended, `error` is what Ray said, if it did.

    Ray Train restarts workers that die; the scheduler lets the new group begin or not. What Ray does not retry, errors
    while a group starts, is retried here. Its memory of checkpoints is not used: each `fit` has a fresh name, and the
    run's manifests say where to go on. An elastic run (`workers=2..8`) gets a new `fit` after each failure, with as
    many workers as the cluster has room for then, in whole groups of the layout.
    """

    def __init__(self, run: Run, scheduler: Any, fence: Fence, use_gpu: bool) -> None:
        self._run = run
        self._scheduler = scheduler
        self._fence = fence
        self._use_gpu = use_gpu
        cpus, name = run.config.readers.cpus, f"t5-reader-{run.config.run}-{uuid.uuid4().hex[:8]}"
        self.readers = {
            number: ray.remote(Reader).options(
                num_cpus=cpus, max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD",
                name=f"{name}-{number}",
            ).remote(run.lanes, run.config.readers.cache_gigabytes)
            for number in range(run.readers)
        }  # fmt: skip
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
        low, high = self._run.config.worker_range
        failed_starts = 0
        while failed_starts < _STARTUP_RETRIES:
            try:
                self._trainer(low if low == high else self._room(), restarts=low == high).fit()
                self.error = None
                return
            except ray.train.ControllerError as error:
                self.error = error
            except ray.train.TrainingFailedError as error:
                self.error = error
                if low == high:
                    return
                continue
            except ray.exceptions.RayError as error:
                self.error = error
            time.sleep(_RETRY_SECONDS * 2**failed_starts)
            failed_starts += 1

    def _room(self) -> int:
        """Workers that the living nodes have room for beside the readers, within the run's range."""
        config = self._run.config
        low, high = config.worker_range
        kind, each = ("GPU", 1.0) if self._use_gpu else ("CPU", float(config.parallel.cpus))
        nodes = [node["Resources"].get(kind, 0) for node in ray.nodes() if node["Alive"]]
        taken = 0.0
        if kind == "CPU":
            # Readers are spread: each node may hold its share of them.
            hosts = sum(amount > 0 for amount in nodes)
            taken = math.ceil(self._run.readers / max(1, hosts)) * config.readers.cpus
        whole = sum(int(max(0.0, amount - taken) // each) for amount in nodes)
        group = config.parallel.tensor * config.parallel.replicas
        return max(low, min(high, whole) // group * group)

    def _trainer(self, workers: int, *, restarts: bool) -> TorchTrainer:
        config = self._run.config
        again = -1 if restarts else 0
        resources = {"CPU": float(config.parallel.cpus), **({"GPU": 1.0} if self._use_gpu else {})}
        return TorchTrainer(
            train_worker,
            train_loop_config={"spec": WorkerSpec(self._run, self._scheduler, self.readers, self._fence)},
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=self._use_gpu,
                resources_per_worker=resources,
            ),
            torch_config=TorchConfig(
                backend="cpu:gloo,cuda:nccl" if self._use_gpu else "gloo", timeout_s=config.faults.timeout_seconds
            ),
            run_config=RunConfig(
                name=f"{config.run.replace('/', '-')}-{uuid.uuid4().hex[:8]}",
                storage_path=tempfile.gettempdir() + "/t5-ray-train",
                failure_config=FailureConfig(
                    max_failures=again, max_preemption_failures=again, controller_failure_limit=again
                ),
            ),
        )
