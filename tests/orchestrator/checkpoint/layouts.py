"""Small states in any layout: what a rank of a grid holds of each tensor."""

import itertools
from collections.abc import Callable, Mapping, Sequence

import torch

from orchestrator.checkpoint import AsyncSaver, Chunk
from tests.orchestrator.memory import FakeClock, MemoryStorage

NOBODY: Callable[[str], bool] = frozenset().__contains__
"""No attempt is still being written."""

State = dict[str, torch.Tensor]


def state_of(step: int) -> State:
    """Tensors of several dtypes and shapes whose values are a function of the step."""
    generator = torch.Generator().manual_seed(step)
    return {
        "param/embedding": torch.randn(7, 4, generator=generator),
        "param/scale": torch.randn(5, generator=generator).bfloat16(),
        "optimizer/embedding/row": torch.randn(7, generator=generator),
        "optimizer/step": torch.tensor(step),
    }


def cut(state: Mapping[str, torch.Tensor], rank: int, world: int, axis: int = 0) -> dict[str, Chunk]:
    """Rank's part where tensors are cut along `axis` (the last, where they have fewer) into parts of ceil size.

    Scalars are held by every rank and owned by the first; the parts are copies.
    """
    chunks = {}
    for name, tensor in state.items():
        if tensor.dim() == 0:
            chunks[name] = Chunk((), (), tensor.clone(), rank == 0)
            continue
        dim = min(axis, tensor.dim() - 1)
        size = -(-tensor.shape[dim] // world)
        first, last = (min(tensor.shape[dim], at * size) for at in (rank, rank + 1))
        offsets = tuple(first if d == dim else 0 for d in range(tensor.dim()))
        part = tensor.narrow(dim, first, last - first).contiguous().clone()
        chunks[name] = Chunk(tuple(tensor.shape), offsets, part, part.numel() > 0)
    return chunks


def grid(tensor: torch.Tensor, edges: Sequence[Sequence[int]]) -> list[Chunk]:
    """All parts of a tensor cut at `edges` (inner edges of each dimension)."""
    bounds = [[0, *line, size] for line, size in zip(edges, tensor.shape, strict=True)]
    parts = []
    for corner in itertools.product(*(itertools.pairwise(line) for line in bounds)):
        box = tuple(slice(first, last) for first, last in corner)
        parts.append(Chunk(tuple(tensor.shape), tuple(first for first, _ in corner), tensor[box].clone(), True))
    return parts


def blank(chunks: Mapping[str, Chunk]) -> dict[str, Chunk]:
    """The same layout with other values."""
    return {name: chunk._replace(local=torch.full_like(chunk.local, 77)) for name, chunk in chunks.items()}


def whole(chunks: Mapping[str, Chunk]) -> State:
    """The tensors of a single rank."""
    return {name: chunk.local for name, chunk in chunks.items()}


def same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def savers(storages: Sequence[MemoryStorage], attempt: str, **options: object) -> list[AsyncSaver]:
    """One saver a rank, on a clock that never waits."""
    return [
        AsyncSaver(storage, rank=rank, world=len(storages), attempt=attempt, clock=FakeClock(), writers=1, **options)
        for rank, storage in enumerate(storages)
    ]


def save(group: Sequence[AsyncSaver], step: int, kind: str = "permanent") -> bool:
    """One save by all ranks, rank 0 last; whether it was committed."""
    for rank in reversed(range(len(group))):
        group[rank].begin(step, cut(state_of(step), rank, len(group)), {"step": step}, kind=kind,
                          scattered={str(rank): [step, rank]})  # fmt: skip
        group[rank].finish()
    return [event.outcome for event in group[0].events() if event.outcome != "collected"] == ["committed"]
