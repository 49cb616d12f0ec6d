"""Bytes that one device sends in a step, by purpose, for ring algorithms.

Over n ranks a ring all-gather or reduce-scatter of a tensor sends (n - 1) / n of it from each rank, an all-reduce
twice that.
"""

from __future__ import annotations

from orchestrator.forecast.activations import Stack, stacks
from orchestrator.forecast.scenario import Scenario
from orchestrator.forecast.sizes import MASTER, Piece, cut_axis, pieces


def traffic(scenario: Scenario) -> dict[str, int]:
    """Bytes sent by one device and step, by purpose, and their `total`."""
    held = pieces(scenario)
    made = {
        "parameter_gathers": _gathers(scenario, held),
        "gradient_reduce_scatters": _reduce_scatters(scenario, held),
        "replica_all_reduces": _replicas(scenario, held),
        "tensor_parallel_all_reduces": _tensor_parallel(scenario),
        "optimizer_all_reduces": _optimizer(scenario, held),
    }
    return made | {"total": sum(made.values())}


def _ring(ranks: int) -> float:
    return (ranks - 1) / ranks


def _gathers(scenario: Scenario, held: list[Piece]) -> int:
    """Blocks twice a micro-batch, for forward and backward; the root stays whole in between."""
    passes = sum(piece.used * (1 if piece.block is None else 2) for piece in held)
    if scenario.model.architecture == "shared":
        # The encoder's run gathers the blocks a third and fourth time.
        passes += sum(2 * piece.used for piece in held if piece.block is not None)
    return int(scenario.accumulate * scenario.item * passes * _ring(scenario.shards))


def _reduce_scatters(scenario: Scenario, held: list[Piece]) -> int:
    trained = sum(piece.used for piece in held if piece.trains)
    return int(scenario.accumulate * MASTER * trained * _ring(scenario.shards))


def _replicas(scenario: Scenario, held: list[Piece]) -> int:
    trained = sum(piece.held for piece in held if piece.trains)
    return int(scenario.accumulate * 2 * MASTER * trained * _ring(scenario.layout.replicas))


def _tensor_parallel(scenario: Scenario) -> int:
    """Activations at the borders of attention, feed-forward, embedding and loss, forward and backward."""
    degree = scenario.layout.tensor
    if degree == 1:
        return 0
    each = scenario.micro_rows * scenario.model.d_model * scenario.item
    total = 0
    for stack in stacks(scenario):
        # The embedding's sum, then the blocks.
        total += each * stack.length + stack.layers * each * _block_positions(scenario, stack)
    total += each * scenario.target_length
    return int(2 * scenario.accumulate * total * _ring(degree))


def _block_positions(scenario: Scenario, stack: Stack) -> int:
    """Positions that a block sums over its group: forward, what backward repeats of it, backward.

    Recomputing stops at the last thing that backward needs, before the last sum.
    """
    sublayers = 3 if stack.memory else 2
    again = {"none": 0, "feed_forward": 0, "block": sublayers - 1}[scenario.layout.recompute]
    return (2 * sublayers + again) * stack.length + stack.memory


def _optimizer(scenario: Scenario, held: list[Piece]) -> int:
    """Partial sums of moments along cut axes (Adafactor) and three numbers a parameter (one for AdamW)."""
    ranks, degree = scenario.shards, scenario.layout.tensor
    numbers = 0.0
    for piece in held:
        if not piece.trains or ranks * degree == 1:
            continue
        scalars = 3 if scenario.optimizer == "adafactor" else 1
        numbers += scalars * (_ring(ranks) + (_ring(degree) if cut_axis(piece.name) is not None else 0))
        if scenario.optimizer == "adafactor" and len(piece.cut) == 2 and piece.state < piece.held:
            rows, columns = piece.cut
            numbers += columns * _ring(ranks)
            axis = cut_axis(piece.name)
            if axis is not None:
                numbers += (columns if axis == 0 else rows / ranks) * _ring(degree)
    return int(2 * MASTER * numbers)
