"""Any layout loads any checkpoint: parameters and optimizer state go on as if nothing had happened."""

from pathlib import Path

import pytest
import torch.distributed as dist

from data.storage import open_storage
from orchestrator.checkpoint import AsyncSaver, Chunk, resume
from orchestrator.parallel.layout import Layout
from orchestrator.parallel.parallelize import state_tensors
from orchestrator.parallel.shards import is_owner, local_chunk
from tests.orchestrator.parallel.cases import CASES, Part, Trainer, assemble
from tests.orchestrator.parallel.test_layouts import assert_near
from tests.ranks import run_ranks

NAME = "v1.1-packed"
SAVED, LAST = 2, 4
SAVERS = {1: [1], 2: [1], 4: [2]}
LOADERS = {1: [1], 2: [1, 2], 4: [1, 2, 4]}
"""Tensor-parallel degrees by world size."""


def chunks(trainer: Trainer) -> dict[str, Chunk]:
    tensors = state_tensors(trainer.model, trainer.optimizer)
    return {name: Chunk(*local_chunk(tensor), is_owner(tensor)) for name, tensor in tensors.items()}


def save(rank: int, world: int, folder: str) -> None:
    """Train to step `SAVED` on each saving layout of this world size and save there."""
    for tensor in SAVERS[world]:
        trainer = Trainer(CASES[NAME], Layout(tensor=tensor))
        for step in range(1, SAVED + 1):
            trainer.backward(step)
            trainer.update()
        saver = AsyncSaver(open_storage(Path(folder, f"{world}-{tensor}")), rank=rank, world=world, attempt="1")
        saver.begin(SAVED, chunks(trainer), {"step": SAVED})
        assert saver.finish(dist.group.WORLD)


def go_on(rank: int, world: int, folder: str) -> dict[tuple[int, str], tuple[list[float], dict[str, Part]]]:
    """By (degree, checkpoint): losses and the final parts of a run continued from there."""
    found = {}
    for tensor in LOADERS[world]:
        for saved in sorted(Path(folder).iterdir()):
            trainer = Trainer(CASES[NAME], Layout(tensor=tensor))
            assert resume(open_storage(saved), chunks(trainer), dist.group.WORLD) is not None
            losses = []
            for step in range(SAVED + 1, LAST + 1):
                losses.append(trainer.backward(step))
                trainer.update()
            found[tensor, saved.name] = (losses, trainer.parts())
    return found


def undisturbed() -> tuple[list[float], dict[str, Part]]:
    trainer, losses = Trainer(CASES[NAME], Layout()), []
    for step in range(1, LAST + 1):
        losses.append(trainer.backward(step))
        trainer.update()
    return losses[SAVED:], trainer.parts()


def test_every_layout_goes_on_from_every_other(tmp_path: Path) -> None:
    for world in SAVERS:
        run_ranks(world, save, world, str(tmp_path))
    losses, parts = undisturbed()
    pairs = 0
    for world in LOADERS:
        ranks = run_ranks(world, go_on, world, str(tmp_path))
        for key, (found, _) in ranks[0].items():
            assert found == pytest.approx(losses, rel=1e-4), key
            assert_near({n: assemble([rank[key][1][n] for rank in ranks]) for n in parts}, parts, 1e-3)
            pairs += 1
    assert pairs == 18
