"""An evaluator actor: holds whole models and turns batches of input ids into output ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from model.decoding.search import beam_search, greedy
from model.transformer import T5
from orchestrator.evaluation.batches import padded
from orchestrator.evaluation.restore import restore
from orchestrator.evaluation.settings import Settings


class Evaluator:
    """Its state is a cache: every request names the weights, so an actor that died goes on where Ray restarts it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self._device.type == "cpu":
            torch.set_num_threads(settings.cpus)
        self._held: tuple[str, ...] = ()
        self._models: list[T5] = []

    def decode(self, sources: Sequence[str], rows: Sequence[NDArray[np.uint16]]) -> list[list[int]]:
        """Output ids of each row of input ids (EOS last), by the models of `sources`, their logits averaged."""
        self._hold(tuple(sources))
        inputs = torch.from_numpy(padded(rows)).to(self._device)
        settings = self._settings
        if settings.beam == 1:
            ids = greedy(self._models, inputs, max_length=settings.decode_length)
        else:
            beams = beam_search(
                self._models,
                inputs,
                max_length=settings.decode_length,
                width=settings.beam,
                alpha=settings.length_penalty,
            )
            ids = beams.ids[:, 0]
        return [[int(token) for token in row] for row in ids.tolist()]

    def _hold(self, sources: tuple[str, ...]) -> None:
        if sources == self._held:
            return
        self._models, self._held = [], ()
        low = self._settings.precision == "bf16" or (self._settings.precision == "auto" and self._device.type == "cuda")
        dtype = torch.bfloat16 if low else torch.float32
        self._models = [restore(source, self._device, dtype).eval() for source in sources]
        self._held = sources
