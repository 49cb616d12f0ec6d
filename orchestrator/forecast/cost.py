"""Time and money of a run at a stated share of the peak rate, and what is known of devices."""

from __future__ import annotations

import re
from dataclasses import dataclass

from data.errors import UserError
from orchestrator.flops import PEAK_BF16, train_flops
from orchestrator.forecast.scenario import Scenario

MEMORY = {
    "A100": 79.1, "A100-40": 39.4, "H100": 79.1, "H200": 139.8, "B200": 178.3, "L40S": 44.4, "A10G": 22.0,
}  # fmt: skip
"""GiB that a program sees, by name: a little below the maker's round number."""

CONTEXT_BYTES = 2**30
"""Taken by CUDA, its libraries and communication buffers before the first tensor."""

FRAGMENTED = 0.05
"""Share of a device's memory that the allocator cannot use when it is nearly full."""


@dataclass(frozen=True)
class Gpu:
    """One kind of device."""

    name: str
    memory: int
    """Bytes."""
    peak: float | None
    """Dense bf16 operations a second; None where it is not known."""

    @property
    def usable(self) -> int:
        """Bytes that tensors may take."""
        return int(self.memory * (1 - FRAGMENTED)) - CONTEXT_BYTES


def gpu(text: str) -> Gpu:
    """A device by name, or by its bytes of memory (`80e9`, `80GB`, `80GiB`)."""
    names = {name.lower(): name for name in MEMORY}
    if text.lower() in names:
        name = names[text.lower()]
        return Gpu(name, int(MEMORY[name] * 2**30), PEAK_BF16[name.split("-")[0]])
    match = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)\s*(|gb|gib)", text.lower())
    try:
        number = float(match[1]) if match else 0.0
    except ValueError:
        number = 0.0
    if match is None or number <= 0:
        raise UserError(f"--gpu {text}: give bytes (80e9, 80GB, 80GiB) or one of {', '.join(MEMORY)}")
    memory = int(number * {"": 1, "gb": 10**9, "gib": 2**30}[match[2]])
    if memory <= 2 * CONTEXT_BYTES:
        raise UserError(f"--gpu {text}: {memory} bytes hold no model; give the device's memory, for example 80e9")
    return Gpu(text, memory, None)


@dataclass(frozen=True)
class Cost:
    """What a run takes without failures; None where the device's rate or the price is not known."""

    flops_per_step: float
    """Useful operations; recomputation is not counted, as in the utilization."""
    tokens: int
    """Input and target positions of the whole run."""
    step_seconds: float | None
    hours: float | None
    price: float | None


def cost(scenario: Scenario, steps: int, device: Gpu, mfu: float, price: float | None) -> Cost:
    """Time and price of `steps` steps at utilization `mfu` and `price` a device and hour."""
    if not 0 < mfu <= 1:
        raise UserError(f"--mfu {mfu}: the share of the peak rate lies above 0 and is at most 1, for example 0.4")
    if price is not None and price < 0:
        raise UserError(f"--price {price}: a price of a device and hour is not negative")
    flops = train_flops(scenario.model, scenario.rows, scenario.input_length, scenario.target_length)
    seconds = None if device.peak is None else flops / (scenario.world * device.peak * mfu)
    hours = None if seconds is None else steps * seconds / 3600
    paid = None if hours is None or price is None else hours * scenario.world * price
    tokens = steps * scenario.rows * (scenario.input_length + scenario.target_length)
    return Cost(flops, tokens, seconds, hours, paid)
