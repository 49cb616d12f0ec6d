"""The layout nearest to a wanted one that fits: the fewest and cheapest changes, found by trying them in order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

from data.errors import UserError
from orchestrator.forecast.memory import Moment, peak
from orchestrator.forecast.scenario import Scenario
from orchestrator.parallel.layout import Recompute

ACCUMULATE, RECOMPUTE, IN_BACKWARD, TENSOR, WORKERS = 1.0, 1.5, 0.5, 3.0, 8.0
"""What a doubling, or a change by one step, is held to be worth: time first, then devices."""

MOST_DOUBLINGS = 6
"""Of the workers, where no cluster bounds them."""


@dataclass(frozen=True)
class Nearest:
    """A scenario that fits, and its peak."""

    scenario: Scenario
    peak: Moment

    def overrides(self, wanted: Scenario) -> dict[str, int | bool | str]:
        """What to change in the configuration of `wanted`, by key."""
        found, before = _values(self.scenario), _values(wanted)
        return {key: value for key, value in found.items() if value != before[key]}


def nearest(wanted: Scenario, usable: int, most_workers: int | None, node: int = 8) -> Nearest | None:
    """The nearest scenario whose peak is at most `usable` bytes, or None.

    `most_workers` is the cluster's size; tensor-parallel groups that it proposes stay within `node` devices.
    """
    for scenario in sorted(_candidates(wanted, most_workers, node), key=lambda made: _distance(wanted, made)):
        at = peak(scenario)
        if at.total <= usable:
            return Nearest(scenario, at)
    return None


def _values(scenario: Scenario) -> dict[str, int | bool | str]:
    return {
        "workers": scenario.world,
        "parallel.tensor": scenario.layout.tensor,
        "parallel.recompute": scenario.layout.recompute,
        "optimizer.in_backward": scenario.in_backward,
        "batch.accumulate": scenario.accumulate,
    }


def _candidates(wanted: Scenario, most_workers: int | None, node: int) -> Iterator[Scenario]:
    most = most_workers or wanted.world * 2**MOST_DOUBLINGS
    worlds = [wanted.world * 2**n for n in range(MOST_DOUBLINGS + 1) if wanted.world * 2**n <= most]
    if most_workers is not None and most_workers not in worlds:
        worlds.append(most_workers)
    tensors = {wanted.layout.tensor} | {degree for degree in (1, 2, 4, 8) if degree <= node}
    for world, tensor, recompute, in_backward in itertools.product(
        worlds, tensors, get_args(Recompute), (False, True)
    ):
        layout = replace(wanted.layout, tensor=tensor, recompute=recompute)
        made = replace(wanted, world=world, layout=layout, in_backward=in_backward, accumulate=1)
        try:
            made.check()
        except UserError:
            continue
        # Once one row is a micro-batch, more of them save nothing.
        doublings = 0 if in_backward else math.ceil(math.log2(max(1, made.micro_rows)))
        for accumulate in {2**n for n in range(doublings + 1)} | ({wanted.accumulate} if not in_backward else set()):
            yield replace(made, accumulate=accumulate)


def _distance(wanted: Scenario, made: Scenario) -> float:
    policies = get_args(Recompute)
    steps = abs(policies.index(made.layout.recompute) - policies.index(wanted.layout.recompute))
    return (
        ACCUMULATE * abs(math.log2(made.accumulate / wanted.accumulate))
        + RECOMPUTE * steps
        + IN_BACKWARD * (made.in_backward != wanted.in_backward)
        + TENSOR * abs(math.log2(made.layout.tensor / wanted.layout.tensor))
        + WORKERS * abs(math.log2(made.world / wanted.world))
    )
