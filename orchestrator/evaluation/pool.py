"""Evaluator actors and the batches dealt to them: each batch once, to whichever actor is free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from orchestrator.evaluation.evaluator import Evaluator
from orchestrator.evaluation.settings import Settings

_AHEAD = 2
"""Batches on their way to each actor."""
_RETRIES = 3
Rows = Sequence[NDArray[np.uint16]]


class Pool:
    """A context manager: the actors live within it."""

    def __init__(self, settings: Settings, use_gpu: bool) -> None:
        options = {"num_cpus": settings.cpus, "num_gpus": int(use_gpu), "scheduling_strategy": "SPREAD"}
        actor = ray.remote(Evaluator).options(max_restarts=_RETRIES, max_task_retries=_RETRIES, **options)
        self._actors: list[Any] = [actor.remote(settings) for _ in range(settings.actors)]

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def decode(self, sources: Sequence[str], batches: Sequence[Rows]) -> Iterator[tuple[int, list[list[int]]]]:
        """(number of the batch, output ids of its rows) in the order in which they are done."""
        left = iter(enumerate(batches))
        flying: dict[Any, tuple[int, Any]] = {}

        def send(actor: Any) -> None:
            for number, rows in left:
                flying[actor.decode.remote(list(sources), list(rows))] = (number, actor)
                return

        for _ in range(_AHEAD):
            for actor in self._actors:
                send(actor)
        while flying:
            (ready,), _ = ray.wait(list(flying), num_returns=1)
            number, actor = flying.pop(ready)
            outputs: list[list[int]] = ray.get(ready)
            send(actor)
            yield number, outputs
