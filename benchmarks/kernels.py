"""What a device did and could do: the kernels of a call by name, and the rate of a large matrix product."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def kernel_names(work: Callable[[], Any], most: int = 15) -> list[dict[str, Any]]:
    """The kernels of one call on CUDA with the most time: name, calls, milliseconds."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        work()
    kernels = [event for event in profile.key_averages() if event.self_device_time_total > 0]
    kernels.sort(key=lambda event: -event.self_device_time_total)
    return [
        {"name": event.key[:160], "calls": event.count, "milliseconds": event.self_device_time_total / 1e3}
        for event in kernels[:most]
    ]


def product_ceiling(device: torch.device) -> float:
    """Operations a second of a square matrix product: bf16 on CUDA, fp32 on CPU; the median of the better half."""
    cuda = device.type == "cuda"
    size = 8192 if cuda else 1536
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(size, size, generator=generator).to(device, torch.bfloat16 if cuda else torch.float32)
    seconds = []
    for _ in range(40 if cuda else 12):
        if cuda:
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        torch.mm(a, a)
        if cuda:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return float(2 * size**3 / statistics.median(sorted(seconds)[: len(seconds) // 2]))
