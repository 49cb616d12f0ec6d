"""The ledger for people: one line an event, then what the run achieved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.faults.blame import in_words, suspect_nodes
from orchestrator.ledger.goodput import Summary
from orchestrator.ledger.journal import Event

_STYLES = {
    "fault": "red", "worker_failed": "red", "nonfinite": "yellow", "loss_spike": "yellow", "straggler": "yellow",
    "checkpoint_failed": "red", "unreadable": "red", "checkpoint_skipped": "yellow",
    "window_skipped": "yellow", "suspect_node": "bold red", "checkpoint": "green", "outcome": "bold",
}  # fmt: skip


def table(events: Sequence[Event]) -> Table:
    """Time, kind and fields of each event; progress is left out, its sum is in the summary."""
    rows = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    rows.add_column("time (UTC)", no_wrap=True)
    rows.add_column("event", no_wrap=True)
    rows.add_column("step", justify="right", no_wrap=True)
    rows.add_column("what", overflow="fold")
    for event in events:
        if event["kind"] == "progress":
            continue
        rest = {key: value for key, value in event.items() if key not in ("kind", "time", "step")}
        rows.add_row(
            _when(event.get("time")), Text(event["kind"], _STYLES.get(event["kind"], "")), _number(event.get("step")),
            Text(" ".join(f"{key}={_short(value)}" for key, value in rest.items())),
        )  # fmt: skip
    return rows


def summary_lines(summary: Summary) -> Table:
    """The run in numbers, one a line."""
    lines = Table.grid(padding=(0, 2))
    goodput = "no steps recorded yet" if summary.goodput is None else f"{summary.goodput:.1%}"
    faults = ", ".join(f"{count} {name}" for name, count in sorted(summary.faults.items())) or "none"
    for name, value in (
        ("goodput", f"{goodput} ({_duration(summary.counted_seconds)} in steps that counted, of "
                    f"{_duration(summary.wall_seconds)})"),
        ("last step", _number(summary.last_step)),
        ("done again", f"{_number(summary.redone_steps)} steps, {_duration(summary.lost_seconds)}"),
        ("attempts", f"{summary.attempts}, {summary.restarts} of them after a fault"),
        ("world sizes", " → ".join(map(str, summary.worlds)) or "none"),
        ("faults", faults),
        ("checkpoints", f"{summary.checkpoints} saved, {summary.failed_checkpoints} failed, steps stood still for "
                        f"{_duration(summary.stall_seconds)}"),
        ("data stepped over", f"{_number(summary.skipped_steps)} steps"),
        *(("by node", line) for line in node_lines(summary.nodes)),
    ):  # fmt: skip
        lines.add_row(Text(name, "bold"), value)
    return lines


def node_lines(nodes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A line for each node that faults point to, worst first; the suspect ones say what to do."""
    suspect = suspect_nodes(nodes)
    return [
        f"{node}: {in_words(counts)}" + ("; take it out" if node in suspect else "") for node, counts in nodes.items()
    ]


def history(events: Sequence[Event], summary: Summary) -> RenderableType:
    """Events, then summary."""
    return Group(table(events), "", summary_lines(summary))


def _when(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= 200 else text[:199] + "…"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
