"""Looks at every step's numbers and every rank's speed; says what is wrong and when the run must roll back."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from orchestrator.faults.numbers import NonFinitePolicy, SpikeDetector
from orchestrator.faults.stragglers import stragglers
from orchestrator.training.step import Agreed

Tell = Callable[[str, dict[str, Any]], None]
_PROBES = 9


class RollBack(RuntimeError):
    """The worker group ends to start again from the newest checkpoint, without the data of some steps."""


class Watch:
    """The same decisions on every rank, since all see the same agreed numbers; `tell` is used on rank 0 alone."""

    def __init__(self, policy: NonFinitePolicy, rolled_back: int, nodes: Sequence[str], tell: Tell | None) -> None:
        self._policy = policy
        self._rolled_back = rolled_back
        self._nodes = dict(enumerate(nodes))
        self._tell = tell
        self._spikes = SpikeDetector()
        self._seconds: dict[int, deque[float]] = {rank: deque(maxlen=_PROBES) for rank in self._nodes}

    @property
    def state(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return self._policy.state()

    def step(self, step: int, agreed: Agreed, *, in_backward: bool = False) -> None:
        """Raises `RollBack` when skipping steps did not help, `NumbersBroken` when rolling back did not either.

        `in_backward`: blocks were updated before all gradients were known. A step whose loss was finite and whose
        gradient was not has then spoiled them, and no checkpoint may be made of that.
        """
        spoiled = in_backward and not agreed.finite and math.isfinite(agreed.loss)
        self._policy, action = self._policy.observe(step, agreed.finite, self._rolled_back, spoiled=spoiled)
        if action.kind == "skip":
            self._say("nonfinite", step=step)
        elif action.kind == "roll_back" and action.window is not None:
            first, last = action.window.first, action.window.last
            self._say("window_skipped", first=first, last=last)
            raise RollBack(f"steps {first} to {last} gave a non-finite loss or gradient; going back, past their data")
        score = self._spikes.observe(agreed.loss)
        if agreed.finite and score is not None and self._spikes.is_spike(score):
            self._say("loss_spike", step=step, loss=agreed.loss, score=score)

    def speeds(self, step: int, seconds: Sequence[float]) -> None:
        """Compare the ranks' own times of the same piece of work (see `probe`)."""
        for rank, value in enumerate(seconds):
            self._seconds[rank].append(value)
        if all(len(times) == _PROBES for times in self._seconds.values()):
            for slow in stragglers(self._seconds, self._nodes):
                self._say("straggler", step=step, node=slow.node, rank=slow.rank, ratio=slow.ratio)
            for times in self._seconds.values():
                times.clear()

    def _say(self, kind: str, **fields: Any) -> None:
        if self._tell is not None:
            self._tell(kind, fields)


def probe(device: torch.device, size: int = 512) -> float:
    """Seconds this rank needs for a fixed matrix product, alone: steps themselves show no slow rank, since
    collectives make all ranks wait for it."""
    x = torch.ones(size, size, device=device)
    (x @ x).sum().item()
    began = time.perf_counter()
    (x @ x).sum().item()
    return time.perf_counter() - began
