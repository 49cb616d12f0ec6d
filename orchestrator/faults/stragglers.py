"""Slow ranks and replicas that differ: found by comparing. Pure.

In a synchronous run the step takes equally long everywhere, so what is compared is the time that a rank itself
computes, before it waits in a collective.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Straggler:
    """A slow rank, or with `rank` None a node most of whose ranks are slow; `ratio` to the median of all ranks."""

    node: str
    rank: int | None
    ratio: float

    def __str__(self) -> str:
        who = f"node {self.node}" if self.rank is None else f"rank {self.rank} on {self.node}"
        return f"{who} takes {self.ratio:.2f} times the median step time"


def stragglers(
    seconds: Mapping[int, Sequence[float]], nodes: Mapping[int, str], ratio: float = 1.5
) -> list[Straggler]:
    """Ranks whose median own time is above `ratio` times the median over ranks, slowest first.

    `seconds` holds each rank's own times of some recent steps. Where more than half of a node's several ranks are slow
    the node is named once in their place. Fewer than two ranks have nobody to be compared with.
    """
    medians = {rank: statistics.median(times) for rank, times in seconds.items() if times}
    if len(medians) < 2:
        return []
    # With the lower median the slow half of two ranks cannot hide behind the mean of both.
    typical = statistics.median_low(medians.values())
    if typical <= 0:
        return []
    slow = {rank: value / typical for rank, value in medians.items() if value > ratio * typical}
    ranks_of: dict[str, list[int]] = {}
    for rank in medians:
        ranks_of.setdefault(nodes[rank], []).append(rank)
    found: list[Straggler] = []
    for node, ranks in ranks_of.items():
        late = [rank for rank in ranks if rank in slow]
        if len(ranks) > 1 and 2 * len(late) > len(ranks):
            found.append(Straggler(node, None, statistics.median(slow[rank] for rank in late)))
        else:
            found.extend(Straggler(node, rank, slow[rank]) for rank in late)
    return sorted(found, key=lambda straggler: -straggler.ratio)


def odd_ones_out(digests: Mapping[int, str]) -> list[int]:
    """Ranks whose digest of what should be equal is not the majority's; all ranks where no digest has a majority."""
    if not digests:
        return []
    digest, count = Counter(digests.values()).most_common(1)[0]
    if count == len(digests):
        return []
    if 2 * count <= len(digests):
        return sorted(digests)
    return sorted(rank for rank, value in digests.items() if value != digest)
