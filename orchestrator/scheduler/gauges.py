"""The run's own metrics on Ray's metrics endpoint, for Prometheus: gauges with the tag `run` (Ray prefixes `ray_`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.util.metrics import Gauge

_HELP = {
    "t5_step": "Last logged step",
    "t5_loss": "Mean training loss since the last logged step, nats a token",
    "t5_tokens_per_second": "Input and target tokens a second over all workers",
    "t5_mfu": "Useful operations over the devices' dense bf16 peak",
    "t5_data_wait_seconds": "Seconds waited for data since the last logged step",
    "t5_checkpoint_seconds": "Seconds from snapshot to commit of the last checkpoint",
    "t5_checkpoint_age_seconds": "Seconds since the last committed checkpoint",
    "t5_restarts": "Worker groups that started after the first",
    "t5_goodput": "Time in steps that counted over wall time",
}
_FROM_METRICS = {
    "t5_step": "step", "t5_loss": "loss", "t5_tokens_per_second": "tokens_per_second", "t5_mfu": "mfu",
    "t5_data_wait_seconds": "data_wait_seconds",
}  # fmt: skip


class Gauges:
    """The gauges of one run."""

    def __init__(self, run: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._gauges = {name: Gauge(name, text, tag_keys=("run",)) for name, text in _HELP.items()}
        for gauge in self._gauges.values():
            gauge.set_default_tags({"run": run})
        self._clock = clock
        self._saved_at = clock()
        self._attempts = 0

    def metrics(self, line: dict[str, Any]) -> None:
        """Take a logged step."""
        for name, key in _FROM_METRICS.items():
            if line.get(key) is not None:
                self._gauges[name].set(line[key])
        self._gauges["t5_checkpoint_age_seconds"].set(self._clock() - self._saved_at)

    def event(self, kind: str, fields: dict[str, Any]) -> None:
        """Take an event of the ledger."""
        if kind == "checkpoint":
            self._saved_at = self._clock()
            self._gauges["t5_checkpoint_seconds"].set(fields["seconds"])
            self._gauges["t5_checkpoint_age_seconds"].set(0.0)
        elif kind == "attempt":
            self._attempts += 1
            self._gauges["t5_restarts"].set(self._attempts - 1)

    def goodput(self, value: float | None) -> None:
        """Take the goodput of the run so far."""
        if value is not None:
            self._gauges["t5_goodput"].set(value)
