"""What a logged step says: means since the last line, speed, seconds lost to data and checkpoints."""

from __future__ import annotations

import time
from typing import Any

from orchestrator.checkpoint import AsyncSaver
from orchestrator.config import Config
from orchestrator.flops import peak_flops, train_flops
from orchestrator.readers import Feed
from orchestrator.training.assembly import Assembled
from orchestrator.training.step import Agreed


class Meter:
    """Counts on one rank; rank 0's line is the one that is kept."""

    def __init__(self, config: Config, parts: Assembled, feed: Feed, saver: AsyncSaver, *, tokens: int) -> None:
        self._feed, self._saver = feed, saver
        self.tokens = tokens
        """Input and target tokens that the run has trained on, padding left out."""
        self.held_out: float | None = None
        self._flops = train_flops(parts.model.config, config.batch.rows, parts.input_positions, parts.target_positions)
        peak = peak_flops(parts.device)
        self._peak = None if peak is None else peak * parts.world
        self._last_step = config.steps
        self.reset()

    def add(self, agreed: Agreed) -> None:
        """Take one step."""
        self._steps += 1
        if agreed.finite:
            self._finite += 1
            self._loss += agreed.loss
        self._last = agreed
        self.tokens += agreed.tokens_seen

    def pause(self, seconds: float) -> None:
        """Leave out time that is not training (evaluation)."""
        self._paused += seconds

    def times(self) -> dict[str, float]:
        """Seconds a step of this rank since the last line, and those waited for data and checkpoints."""
        spent = time.monotonic() - self._since - self._paused
        return {
            "step_seconds": spent / max(1, self._steps),
            "data_wait_seconds": self._feed.waited_seconds - self._data_before,
            "checkpoint_wait_seconds": self._saver.stall_seconds - self._saves_before,
        }

    def line(self, step: int, rate: float, times: list[dict[str, float]]) -> dict[str, Any]:
        """The logged object; `times` are those of all ranks, of which the slowest decides."""
        slowest = {name: max(rank[name] for rank in times) for name in times[0]}
        seconds = slowest["step_seconds"]
        tokens = self.tokens - self._tokens_before
        made: dict[str, Any] = {
            "step": step,
            "steps": self._steps,
            "loss": self._loss / self._finite if self._finite else None,
            "z_loss": self._last.z_loss,
            "accuracy": self._last.accuracy,
            "gradient_norm": self._last.gradient_norm,
            "learning_rate": rate,
            "tokens": self.tokens,
            "tokens_per_second": tokens / (seconds * self._steps),
            **slowest,
            "seconds_left": seconds * (self._last_step - step),
        }
        if self._peak:
            made["mfu"] = self._flops / (seconds * self._peak)
        if self.held_out is not None:
            made["held_out_loss"] = self.held_out
        return made

    def reset(self) -> None:
        """Begin the next line."""
        self._since = time.monotonic()
        self._steps, self._finite, self._loss, self._paused = 0, 0, 0.0, 0.0
        self._tokens_before = self.tokens
        self._data_before = self._feed.waited_seconds
        self._saves_before = self._saver.stall_seconds
        self.held_out = None
