"""Starts Ray on this machine or joins the cluster that `RAY_ADDRESS` names."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import warnings
from collections.abc import Iterator

from orchestrator.config import Config
from orchestrator.scheduler.order import Demand

# Without these a worker's own directory replaces the driver's, prints come twice, and a dead worker is seen late.
_RAY_DEFAULTS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_COLOR_PREFIX": "0",
    # Ray gives up a cut connection after 20 s in silence; links come back later than that.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "120",
    # The metrics agent is not part of a run on one machine; its absence is not worth a warning a second.
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
}


def demand_of(config: Config, readers: int, use_gpu: bool) -> Demand:
    """Train workers (the fewest that may run) and readers; the scheduler takes no CPU of its own."""
    workers = config.worker_range[0]
    return Demand(workers * config.parallel.cpus + readers * config.readers.cpus, workers if use_gpu else 0)


def join() -> None:
    """Connect to the cluster that `RAY_ADDRESS` names; nothing where this process is connected already."""
    import ray

    ray.init(logging_level=logging.WARNING, log_to_driver=False, ignore_reinit_error=True)


def use_gpus(device: str) -> bool:
    """Whether workers take GPUs. `auto`: where the cluster to join has one, else where this machine has one."""
    if device != "auto":
        return device == "gpu"
    if os.environ.get("RAY_ADDRESS"):
        import ray

        join()
        return bool(ray.cluster_resources().get("GPU", 0) > 0)
    import torch

    return torch.cuda.is_available()


@contextlib.contextmanager
def ray_session(demand: Demand) -> Iterator[bool]:
    """Yields whether Ray was started here; what was started is stopped at the end."""
    for name, value in _RAY_DEFAULTS.items():
        os.environ.setdefault(name, value)
    import ray

    local = not os.environ.get("RAY_ADDRESS")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        if local:
            ray.init(
                address="local",
                num_cpus=max(os.cpu_count() or 1, math.ceil(demand.cpus)),
                object_store_memory=512 * 2**20,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
        else:
            join()
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    try:
        yield local
    finally:
        ray.shutdown()


def missing_resources(demand: Demand) -> str | None:
    """One sentence on what the joined cluster lacks now, or None; an autoscaler may still bring it."""
    import ray

    have = ray.cluster_resources()
    lacks = [
        f"{wanted:g} {kind}s wanted, {have.get(kind, 0):g} there"
        for kind, wanted in (("CPU", demand.cpus), ("GPU", demand.gpus))
        if wanted > have.get(kind, 0)
    ]
    if not lacks:
        return None
    return f"the cluster is smaller than the run needs ({'; '.join(lacks)}); waiting for nodes, or lower workers="
