"""Whatever way tensors were cut when they were saved, they load into whatever way they are cut now."""

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import UserError
from orchestrator.checkpoint import CheckpointMismatch, Chunk, load, newest, resume
from tests.orchestrator.checkpoint.layouts import blank, cut, grid, same, save, savers, state_of, whole
from tests.orchestrator.memory import MemoryStorage


@st.composite
def shapes_and_cuts(draw: st.DrawFn) -> tuple[list[int], list[list[int]], list[list[int]]]:
    shape = draw(st.lists(st.integers(1, 9), min_size=0, max_size=3))

    def edges() -> list[list[int]]:
        inner = [st.sets(st.integers(1, size - 1), max_size=3) if size > 1 else st.just(set()) for size in shape]
        return [sorted(draw(cuts)) for cuts in inner]

    return shape, edges(), edges()


PART_BYTES = st.sampled_from([1, 8, 40, 1 << 20])
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.int64])


@settings(max_examples=150, deadline=None)
@given(shapes_and_cuts(), PART_BYTES, DTYPES)
def test_any_grid_loads_any_grid(case: tuple[list, list, list], part_bytes: int, dtype: torch.dtype) -> None:
    shape, saved, wanted = case
    tensor = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
    storage = MemoryStorage()
    parts = grid(tensor, saved)
    group = savers([storage.view() for _ in parts], "1.a", part_bytes=part_bytes)
    for rank in reversed(range(len(parts))):
        group[rank].begin(1, {"t": parts[rank]}, {})
        group[rank].finish()
    manifest = newest(storage).manifest
    for chunk in grid(tensor, wanted):
        target = blank({"t": chunk})
        load(storage, manifest, target)
        assert torch.equal(target["t"].local, chunk.local)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (2, 1), (3, 2), (8, 5)])
@pytest.mark.parametrize("axis", [0, 1])
def test_worlds(before: int, after: int, axis: int) -> None:
    storage = MemoryStorage()
    assert save(savers([storage.view() for _ in range(before)], "1.a"), 7)
    for rank in range(after):
        chunks = cut(state_of(7), rank, after, axis)
        target = blank(chunks)
        found = resume(storage, target)
        assert same(whole(target), whole(chunks))
        assert found.manifest.payload["scattered"].keys() == {str(rank) for rank in range(before)}


def test_a_view_of_a_larger_tensor_is_filled_in_place() -> None:
    storage = MemoryStorage()
    assert save(savers([storage], "1.a"), 7)
    whole_tensor = torch.zeros(9, 6)
    name = "param/embedding"
    load(storage, newest(storage).manifest, {name: Chunk((7, 4), (0, 0), whole_tensor[1:8, 1:5], True)}, partial=True)
    assert torch.equal(whole_tensor[1:8, 1:5], state_of(7)[name])
    assert float(whole_tensor[0].sum() + whole_tensor[8].sum() + whole_tensor[:, 0].sum()) == 0


def test_a_small_part_is_read_by_range_and_the_file_hashed_once() -> None:
    storage = MemoryStorage()
    tensor = torch.randn(100_000, 4)
    (saver,) = savers([storage], "1.a")
    saver.begin(1, {"t": Chunk((100_000, 4), (0, 0), tensor, True), "u": Chunk((3,), (0,), torch.ones(3), True)}, {})
    assert saver.finish()
    manifest = newest(storage, deep=False).manifest
    storage.reads.clear()
    target = {"t": Chunk((100_000, 4), (50, 0), torch.zeros(10_000, 4), True)}
    load(storage, manifest, target, partial=True)
    assert torch.equal(target["t"].local, tensor[50:10_050])
    # One rank alone must hash the file, and then takes its part from what it read.
    assert [size for _, size in storage.reads] == [manifest.files[0].size]


def test_names_shapes_and_dtypes_must_be_those_of_the_checkpoint() -> None:
    storage = MemoryStorage()
    assert save(savers([storage], "1.a"), 7)
    good = blank(cut(state_of(7), 0, 1))
    manifest = newest(storage).manifest
    renamed = {name.replace("param/", "weight/"): chunk for name, chunk in good.items()}
    short = {name: chunk for name, chunk in good.items() if name != "optimizer/step"}
    wide = good | {"param/scale": Chunk((6,), (0,), torch.zeros(6, dtype=torch.bfloat16), True)}
    half = good | {"param/embedding": good["param/embedding"]._replace(local=torch.zeros(7, 4).half())}
    for chunks, message in (
        (renamed, "does not hold 2 tensors, first 'weight/embedding'"),
        (short, "holds, and this model lacks, 1 tensors, first 'optimizer/step'"),
        (wide, r"holds 'param/scale' as BF16 \(5,\), this run has it as BF16 \(6,\)"),
        (half, r"holds 'param/embedding' as F32 \(7, 4\), this run has it as F16"),
    ):
        with pytest.raises(CheckpointMismatch, match=message):
            load(storage, manifest, chunks)
    load(storage, manifest, short, partial=True)
    assert torch.equal(short["param/embedding"].local, state_of(7)["param/embedding"])


def test_a_part_outside_its_tensor_and_an_unknown_dtype_are_refused() -> None:
    (saver,) = savers([MemoryStorage()], "1.a")
    with pytest.raises(UserError, match=r"part of 't' at \(3,\) with shape \(2,\) is not inside shape \(4,\)"):
        saver.begin(1, {"t": Chunk((4,), (3,), torch.zeros(2), True)}, {})
    with pytest.raises(UserError, match=r"dtype torch\.complex64 cannot be saved"):
        saver.begin(1, {"t": Chunk((4,), (0,), torch.zeros(4, dtype=torch.complex64), True)}, {})


def test_empty_tensors_and_empty_parts_are_kept() -> None:
    storage = MemoryStorage()
    group = savers([storage.view(), storage.view()], "1.a")
    empty = Chunk((0, 3), (0, 0), torch.zeros(0, 3), True)
    for rank in (1, 0):
        local = torch.ones(2) if rank == 0 else torch.zeros(0)
        group[rank].begin(1, {"e": empty, "t": Chunk((2,), (2 * rank,), local, rank == 0)}, {})
        group[rank].finish()
    target = {"e": empty, "t": Chunk((2,), (0,), torch.zeros(2), True)}
    assert resume(storage, target).manifest.step == 1
    assert torch.equal(target["t"].local, torch.ones(2))


def test_every_dtype_is_written_as_the_safetensors_package_reads_it() -> None:
    storage = MemoryStorage()
    (saver,) = savers([storage], "1.a")
    generator = torch.Generator().manual_seed(0)
    dtypes = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.float16, torch.bfloat16, torch.int32,
              torch.float32, torch.int64, torch.float64]  # fmt: skip
    tensors = {str(dtype): (torch.randn(3, 5, generator=generator) * 9).to(dtype) for dtype in dtypes}
    tensors["scalar é"] = torch.tensor(2.5)
    saver.begin(1, {n: Chunk(tuple(t.shape), (0,) * t.dim(), t, True) for n, t in tensors.items()}, {})
    assert saver.finish()
    (path,) = (path for path in storage.list() if path.endswith(".safetensors"))
    read = safetensors.torch.load(storage.read(path))
    assert {name.split("@")[0] for name in read} == tensors.keys()
    assert all(torch.equal(value, tensors[name.split("@")[0]]) for name, value in read.items())
    target = {n: Chunk(tuple(t.shape), (0,) * t.dim(), torch.zeros_like(t), True) for n, t in tensors.items()}
    assert resume(storage, target).manifest.step == 1
    assert same(whole(target), tensors)
