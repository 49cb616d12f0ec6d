"""Which node a fault points to, and which nodes faults point to again and again. Pure.

Who tells of a lost peer is its survivor, and what all ranks raise together (a rollback, found corruption) is told by
each of them: neither says anything about the teller's node. A rank that hangs is one that its watchdog found outside
of collectives, since the others wait there for it. A rank that ended without a word is named by those that spoke.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_PEER_LOST = ("Connection reset", "Connection closed", "onnection refused", "imed out", "NCCL", "ConnectionError")
_AGREED = ("RollBack", "Corruption", "NumbersBroken")
WORDLESS = "a worker ended without a word"
LIMIT = 3
"""Faults that point to one node before it is called suspect."""


def last_line(error: str) -> str:
    """What an error says, without its traceback."""
    return (error.strip().splitlines() or [""])[-1]


def blamed(event: Mapping[str, Any]) -> tuple[str, str] | None:
    """The node that an event of the ledger points to and the fault's class in a word, None where it points to none."""
    kind, node = event["kind"], event.get("node") or ""
    if not node:
        return None
    if kind == "straggler":
        return node, "straggler"
    if kind == "fault":
        return None if event.get("waiting") else (node, str(event.get("fault", "fault")))
    if kind == "worker_failed":
        line = last_line(str(event.get("error", "")))
        if any(sign in line for sign in _PEER_LOST) or any(name in line.partition(":")[0] for name in _AGREED):
            return None
        return node, "worker"
    return None


def silent(nodes: Sequence[str], spoke: Collection[int]) -> tuple[str, tuple[int, ...]] | None:
    """The node whose ranks ended without a word, and those ranks, where some rank spoke and they are all of one node.

    `nodes` holds each rank's node, `spoke` the ranks that told how they ended.
    """
    quiet = tuple(rank for rank in range(len(nodes)) if rank not in spoke)
    places = {nodes[rank] for rank in quiet}
    return (places.pop(), quiet) if spoke and len(places) == 1 else None


@dataclass
class Ending:
    """How one attempt ends, as its ranks tell it: the first that points to a node, else what was told last.

    `nodes` holds each rank's node; `reached` is the last step that is known to be complete.
    """

    nodes: Sequence[str] = ()
    reached: int = 0
    message: str = WORDLESS
    node: str = ""
    _spoke: set[int] = field(default_factory=set)

    def reach(self, step: int) -> None:
        """Step `step` is complete."""
        self.reached = max(self.reached, step)

    def note(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Take an event of the ledger that tells of the end."""
        if "rank" in fields:
            self._spoke.add(fields["rank"])
        self.reach(fields.get("step", 0))
        if not self.node:
            found = blamed({"kind": kind, **fields})
            self.message = last_line(fields["error"]) if "error" in fields else str(fields.get("message", ""))
            self.node = found[0] if found else ""

    def lost(self) -> dict[str, Any] | None:
        """The fault of the ranks that said nothing, where those that spoke only lost them: fields of its event."""
        found = silent(self.nodes, self._spoke)
        if found is None or self.node:
            return None
        node, ranks = found
        return {"fault": "lost", "node": node, "rank": ranks[0], "step": self.reached, "message": WORDLESS}


def by_node(events: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """How often faults of each class point to each node, worst node first."""
    counts: dict[str, Counter[str]] = {}
    for event in events:
        found = blamed(event)
        if found is not None:
            counts.setdefault(found[0], Counter())[found[1]] += 1
    return {node: dict(counts[node]) for node in sorted(counts, key=lambda node: (-counts[node].total(), node))}


def suspect_nodes(counts: Mapping[str, Mapping[str, int]], limit: int = LIMIT) -> list[str]:
    """Nodes of `by_node` that at least `limit` faults point to, worst first."""
    totals = {node: sum(found.values()) for node, found in counts.items()}
    return sorted((node for node in totals if totals[node] >= limit), key=lambda node: (-totals[node], node))


def in_words(counts: Mapping[str, int]) -> str:
    """`2 straggler, 1 worker`."""
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
