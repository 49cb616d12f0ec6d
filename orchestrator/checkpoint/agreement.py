"""How ranks agree on small facts: JSON over a CPU process group, nothing pickled, None for a single process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from data.errors import UserError

Group = dist.ProcessGroup | None


def rank_and_world(group: Group) -> tuple[int, int]:
    """Rank of this process in the group and the group's size; (0, 1) without one."""
    if group is None:
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def gather(value: Any, group: Group) -> list[Any]:
    """Every rank's JSON value, in rank order, on every rank. The group must carry CPU tensors (gloo)."""
    if group is None:
        return [value]
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    world = dist.get_world_size(group)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(world)]
    dist.all_gather(lengths, torch.tensor([text.numel()]), group=group)
    widest = max(int(length) for length in lengths)
    padded = torch.zeros(widest, dtype=torch.uint8)
    padded[: text.numel()] = text
    rows = [torch.zeros(widest, dtype=torch.uint8) for _ in range(world)]
    dist.all_gather(rows, padded, group=group)
    return [json.loads(row[: int(length)].numpy().tobytes()) for row, length in zip(rows, lengths, strict=True)]


def broadcast(value: bytes, group: Group) -> bytes:
    """The bytes that rank 0 of the group gives, on every rank."""
    if group is None:
        return value
    source = dist.get_global_rank(group, 0)
    length = torch.tensor([len(value)])
    dist.broadcast(length, source, group=group)
    if dist.get_rank(group) == 0:
        data = torch.frombuffer(bytearray(value), dtype=torch.uint8) if value else torch.zeros(0, dtype=torch.uint8)
    else:
        data = torch.zeros(int(length), dtype=torch.uint8)
    if data.numel():
        dist.broadcast(data, source, group=group)
    return data.numpy().tobytes()


def from_first(compute: Callable[[], Any], group: Group) -> Any:
    """The JSON value that `compute` gives on rank 0, on every rank; where it raises there, every rank raises."""
    rank, _ = rank_and_world(group)
    raised: Exception | None = None
    outcome: dict[str, Any] = {}
    if rank == 0:
        try:
            outcome = {"value": compute()}
        except Exception as error:
            raised = error
            outcome = {"error": f"{type(error).__name__}: {error}", "user": isinstance(error, UserError)}
    outcome = json.loads(broadcast(json.dumps(outcome).encode(), group))
    if raised is not None:
        raise raised
    if "error" in outcome:
        raise (UserError if outcome["user"] else OSError)(f"rank 0: {outcome['error']}")
    return outcome["value"]
