"""Finds silent corruption: what is computed twice, or held twice, must be equal to the bit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import torch

from orchestrator.checkpoint import Chunk
from orchestrator.faults.stragglers import odd_ones_out


class Corruption(RuntimeError):
    """The arithmetic or memory of `ranks` does not repeat; the group must restart from the newest checkpoint.

    Of two replicas that differ both are named: which of them is right cannot be known.
    """

    def __init__(self, message: str, ranks: Sequence[int]) -> None:
        super().__init__(message)
        self.ranks = tuple(ranks)


def digest(tensors: Sequence[torch.Tensor]) -> str:
    """SHA-256 over the bytes of tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        # A number alone cannot be viewed as bytes, a row of one can.
        found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def held(chunks: Mapping[str, Chunk]) -> dict[str, str]:
    """Digest of each part of a parameter that this rank holds, by the part's name and place in the whole."""
    return {
        f"{name}@{chunk.offsets}": digest([chunk.local])
        for name, chunk in chunks.items()
        if name.startswith("param/") and chunk.local.numel()
    }


def compare(replayed: Sequence[tuple[str, str]], parts: Sequence[Mapping[str, str]]) -> list[tuple[int, str]]:
    """Ranks that are wrong, with what was wrong, from what all ranks gathered, in rank order.

    `replayed` holds two digests of the same step's local forward pass for each rank, `parts` each rank's `held`.
    """
    wrong = [(rank, "a step computed twice") for rank, (first, second) in enumerate(replayed) if first != second]
    for key in sorted({key for rank in parts for key in rank}):
        holders = {rank: held_parts[key] for rank, held_parts in enumerate(parts) if key in held_parts}
        wrong += [(rank, key.removeprefix("param/")) for rank in odd_ones_out(holders)]
    return wrong


def require_sound(
    forward: Callable[[], Sequence[torch.Tensor]],
    chunks: Mapping[str, Chunk],
    gather: Callable[[object], list],
    nodes: Sequence[str],
) -> None:
    """Compute `forward` (this rank's loss sums) twice and compare replicas; all ranks call it together.

    Raises `Corruption` that names ranks and nodes, on all ranks alike.
    """
    mine = (digest(forward()), digest(forward()))
    answers = gather([mine, held(chunks)])
    wrong = compare([tuple(replayed) for replayed, _ in answers], [parts for _, parts in answers])
    if wrong:
        named = "; ".join(f"rank {rank} on {nodes[rank]}: {what}" for rank, what in wrong[:5])
        raise Corruption(
            f"silent corruption ({len(wrong)} differences): {named}. Take the node out where this comes back",
            sorted({rank for rank, _ in wrong}),
        )
