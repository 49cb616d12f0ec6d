"""Events of a run in words, for people; what they need not see is not said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _attempt(event: dict[str, Any]) -> str:
    if not event["go"]:
        return ""
    start = "from the beginning" if event["step"] == 0 else f"after step {event['step']:,}"
    return f"training {start} on {event['world']} worker{'s' if event['world'] > 1 else ''}"


def _who(event: dict[str, Any]) -> str:
    return f"node {event['node']}" if event["rank"] is None else f"rank {event['rank']} on {event['node']}"


_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "attempt": _attempt,
    "grow": lambda e: f"making room for more than {e['world']} workers: there are new nodes",
    "checkpoint": lambda e: f"checkpoint of step {e['step']:,} committed ({e['checkpoint']}, {e['size'] / 1e6:.1f} MB)",
    "checkpoint_failed": lambda e: f"warning: {e['message']}; training goes on",
    "checkpoint_skipped": lambda e: f"warning: passed over the checkpoint {e['folder']}: {e['reason']}",
    "worker_failed": lambda e: f"worker {e['rank']} failed: {e['error'].strip().splitlines()[-1]}",
    "fault": lambda e: f"{e['fault']}: {e['message']}" + (f" (rank {e['rank']} on {e['node']})" if "rank" in e else ""),
    "nonfinite": lambda e: f"warning: step {e['step']:,} had a non-finite loss or gradient and was skipped",
    "window_skipped": lambda e: f"warning: stepping over the data of steps {e['first']:,} to {e['last']:,}",
    "loss_spike": lambda e: f"warning: the loss of step {e['step']:,} stands out ({e['score']:.1f} deviations)",
    "straggler": lambda e: f"warning: {_who(e)} is slow ({e['ratio']:.2f} times the median)",
    "suspect_node": lambda e: f"warning: faults point to node {e['node']} again and again ({e['faults']}): take it out",
    "metrics_not_written": lambda e: f"warning: metrics could not be written: {e['error']}",
}


def in_words(event: dict[str, Any]) -> str:
    """One line for people, empty where there is nothing they need to see."""
    words = _WORDS.get(event["kind"])
    return words(event) if words else ""
