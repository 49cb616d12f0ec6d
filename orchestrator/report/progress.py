"""Progress of a run: a live line on a terminal, plain lines or JSON objects in a log."""

from __future__ import annotations

import json
import sys
from typing import Any, Literal

from rich.console import Console
from rich.live import Live
from rich.text import Text

from orchestrator.redaction import redact, redacted


def duration(seconds: float) -> str:
    """Seconds as `1:02:03` or `2:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def line(metrics: dict[str, Any], steps: int, run: str) -> str:
    """One line that says where the run is."""
    loss = metrics["loss"]
    parts = [f"{run}  step {metrics['step']:,}/{steps:,}", "loss not finite" if loss is None else f"loss {loss:.4f}"]
    if metrics.get("held_out_loss") is not None:
        parts.append(f"held-out {metrics['held_out_loss']:.4f}")
    parts.append(f"{metrics['tokens_per_second']:,.0f} tokens/s")
    left = metrics.get("seconds_left")
    if left is not None:
        parts.append(f"{duration(left)} left")
    return "  ".join(parts)


class Progress:
    """Shows logged steps and events once each; a context manager.

    `style` auto takes the live line where standard output is a terminal and plain lines elsewhere.
    """

    def __init__(self, style: Literal["auto", "text", "json"] = "auto") -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._json = style == "json"
        self._lines: dict[str, str] = {}
        live = style == "auto" and sys.stdout.isatty()
        self._live = Live(console=self._console, refresh_per_second=4) if live else None

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def metrics(self, run: str, metrics: dict[str, Any], steps: int) -> None:
        """Show one logged step."""
        if self._json:
            print(json.dumps({"kind": "metrics", "run": run, **metrics}), flush=True)
        elif self._live is not None:
            self._lines[run] = line(metrics, steps, run)
            if metrics["step"] >= steps:
                self._console.print(self._lines.pop(run))
            self._live.update(Text("\n".join(self._lines.values()), style="bold"))
        else:
            print(line(metrics, steps, run), flush=True)

    def say(self, message: str, event: dict[str, Any] | None = None) -> None:
        """Show an event in words; JSON logs get its fields too. Credentials in it are left out."""
        message, event = redact(message), redacted(event or {})
        if self._json:
            print(json.dumps({"kind": "event", "words": message, **event}), flush=True)
        elif self._live is not None:
            self._console.print(message)
        else:
            print(message, flush=True)
