"""Runs one phase on Ray: reader actors, then a `TorchTrainer` whose workers train; retries what Ray does not."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from orchestrator.elastic import Elastic, Sizes
from orchestrator.lease import Fence
from orchestrator.readers import Reader
from orchestrator.run import Run
from orchestrator.training.worker import WorkerSpec, train_worker

_STARTUP_RETRIES = 5
_RETRY_SECONDS = 2.0
_LOOK_SECONDS = 5.0
_ANSWER_SECONDS = 2.0


class PhaseRunner:
    """A phase in a thread of its own; the scheduler knows how it ended, `error` is what Ray said, if it did.

    Ray Train restarts workers that die; the scheduler lets the new group begin or not. What Ray does not retry, errors
    while a group starts, is retried here. Its memory of checkpoints is not used: each `fit` has a fresh name, and the
    run's manifests say where to go on. An elastic run (`workers=2..8`) gets a new `fit` after each failure, with as
    many workers as the cluster has room for then, in whole groups of the layout. While one runs, the scheduler is told
    how many there could be; it lets the group end at a checkpoint when that is worth it, and a larger one follows.
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
            ).remote(run.lanes, run.config.readers.cache_gigabytes, {"run": run.config.run, "reader": str(number)})
            for number in range(run.readers)
        }  # fmt: skip
        self.error: Exception | None = None
        low, high = run.config.worker_range
        self._fixed = low == high
        self._elastic = Elastic(Sizes.of(run.config, run.readers, use_gpu))
        self._thread = threading.Thread(target=self._fit, name=f"fit-{run.config.run}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()
        if not self._fixed:
            # An autoscaler learns what the run could use; what a group asks for is only what there is.
            self._ask_for_nodes(self._run.config.worker_range[1])
            threading.Thread(target=self._look_for_room, name=f"room-{self._run.config.run}", daemon=True).start()

    @property
    def running(self) -> bool:
        """Whether the thread still works."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the readers."""
        if not self._fixed:
            self._ask_for_nodes(0)
        for reader in self.readers.values():
            ray.kill(reader)

    def _fit(self) -> None:
        size = self._elastic.resize
        failed_starts = 0
        while failed_starts < _STARTUP_RETRIES:
            try:
                self._trainer(size(self._nodes())).fit()
                self.error = None
                if self._fixed or self._over():
                    return
                size, failed_starts = self._elastic.grow, 0
                continue
            except ray.train.ControllerError as error:
                self.error = error
            except ray.train.TrainingFailedError as error:
                self.error = error
                if self._fixed:
                    return
                size, failed_starts = self._elastic.resize, 0
                continue
            except ray.exceptions.RayError as error:
                self.error = error
            size = self._elastic.shrink
            time.sleep(_RETRY_SECONDS * 2**failed_starts)
            failed_starts += 1

    def _over(self) -> bool:
        limit = self._run.config.faults.timeout_seconds
        return bool(ray.get(self._scheduler.over.remote(self._run.config.run), timeout=limit))

    def _look_for_room(self) -> None:
        """Tell the scheduler, as long as the run lasts, how large a group there could be."""
        while self.running:
            time.sleep(_LOOK_SECONDS)
            with contextlib.suppress(ray.exceptions.RayError):
                offered = self._elastic.offer(self._nodes(), ray.available_resources().get(self._kind, 0.0))
                ray.get(self._scheduler.offer.remote(self._run.config.run, offered), timeout=60)

    @property
    def _kind(self) -> str:
        return "GPU" if self._use_gpu else "CPU"

    def _nodes(self) -> list[float]:
        """What each node that answers has of the resource that workers take. Ray itself believes in a lost one for
        some time, and a group that counts on it waits a minute in vain."""
        nodes = [node for node in ray.nodes() if node["Alive"]]
        with ThreadPoolExecutor(16) as pool:
            places = [(node["NodeManagerAddress"], int(node["NodeManagerPort"])) for node in nodes]
            there = list(pool.map(_answers, places))
        return [node["Resources"].get(self._kind, 0.0) for node, alive in zip(nodes, there, strict=True) if alive]

    def _ask_for_nodes(self, workers: int) -> None:
        bundles = [self._bundle() for _ in range(workers)]
        bundles += [{"CPU": self._run.config.readers.cpus} for _ in self.readers if workers]
        request_resources(bundles=bundles)

    def _bundle(self) -> dict[str, float]:
        return {"CPU": float(self._run.config.parallel.cpus), **({"GPU": 1.0} if self._use_gpu else {})}

    def _trainer(self, workers: int) -> TorchTrainer:
        config = self._run.config
        again = -1 if self._fixed else 0
        # Nodes for the smallest group are waited for.
        starts = -1 if workers == config.worker_range[0] else 0
        return TorchTrainer(
            train_worker,
            train_loop_config={"spec": WorkerSpec(self._run, self._scheduler, self.readers, self._fence)},
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=self._use_gpu,
                resources_per_worker=self._bundle(),
            ),
            torch_config=TorchConfig(
                backend="cpu:gloo,cuda:nccl" if self._use_gpu else "gloo", timeout_s=config.faults.timeout_seconds
            ),
            run_config=RunConfig(
                name=f"{config.run.replace('/', '-')}-{uuid.uuid4().hex[:8]}",
                storage_path=tempfile.gettempdir() + "/t5-ray-train",
                failure_config=FailureConfig(
                    max_failures=again, max_preemption_failures=again, controller_failure_limit=starts
                ),
            ),
        )


def _answers(place: tuple[str, int]) -> bool:
    """Whether a server accepts connections at this address and port."""
    try:
        socket.create_connection(place, _ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
