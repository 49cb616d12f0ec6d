"""Real ranks over gloo: DTensors saved on one mesh and loaded on others; damage and refusals agreed by all."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from data.errors import UserError
from data.storage import open_storage
from orchestrator.checkpoint import AsyncSaver, CheckpointDamaged, CheckpointMismatch, Chunk, newest, resume
from orchestrator.checkpoint.agreement import from_first, gather
from orchestrator.parallel.shards import is_owner, local_chunk
from tests.ranks import run_ranks


def values(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {
        "param/wi": torch.randn(10, 6, generator=generator),
        "param/wo": torch.randn(6, 10, generator=generator),
        "param/scale": torch.randn(5, generator=generator),
    }


def placed(step: int, shape: tuple[int, int]) -> dict[str, Chunk]:
    """Weights cut over both dimensions of a (data, tensor) mesh, the scale over data alone, a plain scalar."""
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("dp", "tp"))
    placements = {
        "param/wi": [Shard(0), Shard(1)],
        "param/wo": [Shard(1), Shard(0)],
        "param/scale": [Shard(0), Replicate()],
    }
    tensors = {name: distribute_tensor(value, mesh, placements[name]) for name, value in values(step).items()}
    chunks = {name: Chunk(*local_chunk(tensor), is_owner(tensor)) for name, tensor in tensors.items()}
    step_tensor = torch.tensor(step)
    return chunks | {"optimizer/step": Chunk(*local_chunk(step_tensor), is_owner(step_tensor))}


def load_on(folder: str, shape: tuple[int, int]) -> tuple[int, bool, int]:
    """Step found, whether every value on this rank is right, how many checkpoints were passed over."""
    target = {name: chunk._replace(local=torch.zeros_like(chunk.local)) for name, chunk in placed(0, shape).items()}
    found = resume(open_storage(folder), target, dist.group.WORLD)
    assert found is not None
    expected = placed(found.manifest.step, shape)
    right = all(torch.equal(target[name].local, expected[name].local) for name in expected)
    return found.manifest.step, right, len(found.skipped)


def save_and_load(rank: int, folder: str) -> list[tuple[int, bool, int]]:
    """Steps 3 and 4 saved on a 2 x 2 mesh, then loaded on others of four ranks."""
    saver = AsyncSaver(open_storage(folder), rank=rank, world=4, attempt="1.a", part_bytes=100)
    for step in (3, 4):
        saver.begin(step, placed(step, (2, 2)), {"step": step}, scattered={str(rank): step})
        assert saver.finish(dist.group.WORLD)
    return [load_on(folder, shape) for shape in ((2, 2), (4, 1), (1, 4))]


def load_and_refuse(rank: int, folder: str) -> tuple[list[tuple[int, bool, int]], list[str]]:
    """What two ranks load while step 4 is damaged, and what each kind of refusal then says on this rank."""
    storage, said = open_storage(folder), []
    loaded = [load_on(folder, shape) for shape in ((1, 2), (2, 1))]
    good = placed(0, (2, 1))
    with pytest.raises(CheckpointMismatch) as mismatch:
        resume(storage, {"other": good["param/wi"]}, dist.group.WORLD)
    said.append(str(mismatch.value))
    dist.barrier()
    if rank == 0:
        for path in Path(folder).glob("checkpoints/step-000000003-*/shard-00001-*.safetensors"):
            path.unlink()
    dist.barrier()
    with pytest.raises(CheckpointDamaged) as damaged:
        resume(storage, good, dist.group.WORLD)
    said.append(str(damaged.value))
    with pytest.raises((OSError, UserError)) as failed:
        from_first(lambda: storage.read("not/there"), dist.group.WORLD)
    said.append(str(failed.value))
    assert gather({"rank": rank, "text": "é" * rank}, dist.group.WORLD) == [
        {"rank": 0, "text": ""}, {"rank": 1, "text": "é"},
    ]  # fmt: skip
    return loaded, said


def test_saved_on_2x2_loads_anywhere_and_all_ranks_agree_on_damage(tmp_path: Path) -> None:
    assert run_ranks(4, save_and_load, str(tmp_path)) == [[(4, True, 0)] * 3] * 4
    storage = open_storage(tmp_path)
    assert newest(storage).manifest.payload["scattered"] == {str(rank): 4 for rank in range(4)}
    alone = {
        name: Chunk(tuple(value.shape), (0,) * value.dim(), torch.zeros_like(value), True)
        for name, value in (values(4) | {"optimizer/step": torch.tensor(4)}).items()
    }
    assert resume(storage, alone).manifest.step == 4
    assert all(torch.equal(alone[name].local, value) for name, value in values(4).items())

    shards = sorted(tmp_path.glob("checkpoints/step-000000004-*/shard-00003-*.safetensors"))
    shards[0].write_bytes(shards[0].read_bytes()[:-1] + b"!")
    (loaded, first), (loaded_too, second) = run_ranks(2, load_and_refuse, str(tmp_path))
    assert loaded == loaded_too == [(3, True, 1)] * 2
    assert first[:2] == second[:2]
    assert "does not hold 1 tensors, first 'other'" in first[0]
    assert "none of the 2 committed checkpoints is good" in first[1]
    assert "rank 0: Missing" in second[2]
