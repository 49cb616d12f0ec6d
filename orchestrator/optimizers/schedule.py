"""Learning rate as a pure function of the step.

Steps count from 1, so `f(1)` is the rate of the first update. With Adafactor's parameter scaling the rates
are relative to each parameter's root mean square.
"""

import math


def inverse_square_root(step: int, *, warmup: int = 10_000) -> float:
    """1 / sqrt(max(step, warmup)): flat, then decaying (paper section 3.1.2; no ramp from zero)."""
    return 1 / math.sqrt(max(step, warmup))


def constant(step: int, *, rate: float = 1e-3) -> float:
    """The same rate at every step (the paper's fine-tuning)."""
    return rate


def triangular(step: int, *, peak: float, warmup: int, steps: int) -> float:
    """Linear from `peak / warmup` at step 1 up to `peak` at step `warmup`, then down to 0 at step `steps`.

    `warmup=0` is linear decay alone. The paper tried this shape and kept `inverse_square_root`, which needs
    no total length.
    """
    return peak * min(_ramp(step, warmup), _remaining(step, warmup, steps))


def cosine(step: int, *, peak: float, warmup: int, steps: int, floor: float = 0.0) -> float:
    """Linear warm-up to `peak` at step `warmup`, then half a cosine down to `floor` at step `steps`."""
    if step <= warmup:
        return peak * _ramp(step, warmup)
    phase = math.pi * (1 - _remaining(step, warmup, steps))
    return floor + (peak - floor) * 0.5 * (1 + math.cos(phase))


def _ramp(step: int, warmup: int) -> float:
    return min(1.0, step / warmup) if warmup else 1.0


def _remaining(step: int, warmup: int, steps: int) -> float:
    return min(1.0, max(0.0, (steps - step) / max(1, steps - warmup)))
