"""The end of a run: one page a person reads and `summary.json` for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.storage import Missing, Storage
from orchestrator.ledger.history import node_lines
from orchestrator.report.curve import sketch
from orchestrator.report.progress import duration

SUMMARY = "summary.json"


def unigram_entropy(targets: NDArray[np.integer]) -> float:
    """Entropy in nats of the distribution of the ids of `targets` (any shape), id 0 (padding) left out.

    It is the loss of the best guess that looks at no context: what a model must get clearly below to have learned.
    """
    counts = np.bincount(targets.reshape(-1))[1:]
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


@dataclass(frozen=True)
class Filling:
    """A held-out text with blanks, what stood there, and what the model wrote."""

    text: str
    truth: str
    model: str


@dataclass(frozen=True)
class Summary:
    """What a run ends with."""

    run: str
    outcome: str
    steps: int
    held_out_loss: float | None
    unigram_entropy: float | None
    tokens: int
    seconds: float
    parameters: int
    parameters_sha256: str
    checkpoint: str
    goodput: float | None = None
    fillings: tuple[Filling, ...] = ()
    suspect_nodes: dict[str, dict[str, int]] = field(default_factory=dict)
    """Nodes that faults pointed to again and again, with their counts by class."""

    def write(self, storage: Storage) -> None:
        """Write `summary.json` into the run's folder."""
        storage.write(SUMMARY, (json.dumps(asdict(self), indent=2) + "\n").encode())

    def page(self, metrics: Sequence[dict[str, Any]], folder: str, next_command: str) -> str:
        """The page; `metrics` are the run's logged steps."""
        lines = [f"Run {self.run}: {self.outcome} after {self.steps:,} steps, {self.tokens:,} tokens", ""]
        losses = [(line["step"], line["loss"]) for line in metrics if line.get("loss") is not None]
        if len(losses) > 1:
            lines += ["Training loss", sketch([step for step, _ in losses], [loss for _, loss in losses]), ""]
        if self.held_out_loss is not None and self.unigram_entropy is not None:
            verdict = "clearly below" if self.held_out_loss < 0.95 * self.unigram_entropy else "not clearly below"
            lines += [
                f"Held-out loss     {self.held_out_loss:.4f} nats a token",
                f"Unigram entropy   {self.unigram_entropy:.4f} of the same targets: the loss is {verdict} it",
                "",
            ]
        for number, filling in enumerate(self.fillings, start=1):
            lines += [
                f"Held-out text {number}   {filling.text}",
                f"  stood there     {filling.truth}",
                f"  the model       {filling.model}",
                "",
            ]
        lines += [
            f"Parameters        {self.parameters:,} (sha256 {self.parameters_sha256[:16]})",
            f"Time              {duration(self.seconds)}"
            + (f", {self.goodput:.1%} of it in steps that counted" if self.goodput is not None else ""),
            *(f"Suspect node      {line}" for line in node_lines(self.suspect_nodes)),
            f"Everything lies in {folder}",
            f"  checkpoint      {self.checkpoint}",
            "  metrics         metrics.jsonl, tensorboard/, ledger",
            "",
            f"Next: {next_command}",
        ]
        return "\n".join(lines)


def finished_steps(storage: Storage) -> int | None:
    """Steps of a run that ended with a summary, None without one."""
    try:
        return int(json.loads(storage.read(SUMMARY))["steps"])
    except Missing:
        return None
