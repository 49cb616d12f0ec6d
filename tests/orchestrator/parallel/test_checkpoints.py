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

NAMES = ("v1.1-packed", "shared-dense")
SAVED, LAST = 3, 6
LAYOUTS = [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4)]
"""World size and tensor-parallel degree."""


def chunks(trainer: Trainer) -> dict[str, Chunk]:
    tensors = state_tensors(trainer.model, trainer.optimizer)
    return {name: Chunk(*local_chunk(tensor), is_owner(tensor)) for name, tensor in tensors.items()}


def save(rank: int, world: int, degrees: list[int], folder: str) -> None:
    """Train to step `SAVED` on each layout and save there."""
    for tensor in degrees:
        for name in NAMES:
            trainer = Trainer(CASES[name], Layout(tensor=tensor))
            for step in range(1, SAVED + 1):
                trainer.backward(step)
                trainer.update()
            storage = open_storage(Path(folder, f"{name}-{world}-{tensor}"))
            saver = AsyncSaver(storage, rank=rank, world=world, attempt="1")
            saver.begin(SAVED, chunks(trainer), {"step": SAVED})
            assert saver.finish(dist.group.WORLD)


def go_on(
    rank: int, degrees: list[int], folder: str
) -> dict[tuple[str, int, str], tuple[list[float], dict[str, Part]]]:
    """By (case, degree, checkpoint): losses and the final parts of a run continued from there."""
    found = {}
    for tensor in degrees:
        for name in NAMES:
            for saved in sorted(Path(folder).glob(f"{name}-*")):
                trainer = Trainer(CASES[name], Layout(tensor=tensor))
                assert resume(open_storage(saved), chunks(trainer), dist.group.WORLD) is not None
                losses = []
                for step in range(SAVED + 1, LAST + 1):
                    losses.append(trainer.backward(step))
                    trainer.update()
                found[name, tensor, saved.name] = (losses, trainer.parts())
    return found


def degrees(world: int) -> list[int]:
    return [tensor for size, tensor in LAYOUTS if size == world]


def undisturbed(name: str) -> tuple[list[float], dict[str, Part]]:
    trainer, losses = Trainer(CASES[name], Layout()), []
    for step in range(1, LAST + 1):
        losses.append(trainer.backward(step))
        trainer.update()
    return losses[SAVED:], trainer.parts()


def test_every_layout_goes_on_from_every_other(tmp_path: Path) -> None:
    for world in (1, 2, 4):
        run_ranks(world, save, world, degrees(world), str(tmp_path))
    wanted = {name: undisturbed(name) for name in NAMES}
    pairs = 0
    for world in (1, 2, 4):
        ranks = run_ranks(world, go_on, degrees(world), str(tmp_path))
        for name, tensor, saved in ranks[0]:
            key = name, tensor, saved
            losses, parts = wanted[name]
            assert ranks[0][key][0] == pytest.approx(losses, rel=1e-4), key
            whole = {n: assemble([rank[key][1][n] for rank in ranks]) for n in parts}
            assert_near(whole, parts, 1e-3)
            pairs += 1
    assert pairs == len(NAMES) * len(LAYOUTS) ** 2
