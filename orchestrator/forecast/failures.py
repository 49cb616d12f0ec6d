"""Time lost to failures at the rate published for a large run, and the checkpoint interval that loses least.

Rate: 419 unplanned interruptions of 16,384 devices in 54 days (Llama 3, arXiv 2407.21783, section 3.3.4). Interval:
sqrt(2 * save time * mean time between failures) (Young 1974; Daly 2006, first order).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DEVICE_HOURS_PER_FAILURE = 16_384 * 54 * 24 / 419

RESTART_SECONDS = 300.0
"""Assumed from a failure to the next step: notice, new workers, load."""

SAVE_BYTES_PER_SECOND = 1e9
"""Assumed rate at which a device's part of a checkpoint is copied to the host while training waits."""


@dataclass(frozen=True)
class Failures:
    """What failures and saves cost a run of some length."""

    hours_between: float
    """Mean time between failures of the whole cluster."""
    expected: float
    """Failures of the whole run."""
    lost_hours: float
    """Repeated steps, restarts and waits for saves."""
    interval_hours: float
    """Between checkpoints, as configured."""
    best_interval_hours: float
    """Young and Daly's."""


def failures(
    hours: float, devices: int, step_seconds: float, every: int, ephemeral_seconds: float | None, device_bytes: float
) -> Failures:
    """The loss of a run of `hours` that saves every `every` steps, and in between every `ephemeral_seconds`.

    `device_bytes` is one device's part of a checkpoint.
    """
    interval = every * step_seconds
    if ephemeral_seconds is not None:
        interval = min(interval, max(ephemeral_seconds, step_seconds))
    between = DEVICE_HOURS_PER_FAILURE / devices
    save = device_bytes / SAVE_BYTES_PER_SECOND
    expected = hours / between
    lost = expected * (interval / 2 + RESTART_SECONDS) + hours * 3600 / interval * save
    best = math.sqrt(2 * save * between * 3600)
    return Failures(between, expected, lost / 3600, interval / 3600, best / 3600)
