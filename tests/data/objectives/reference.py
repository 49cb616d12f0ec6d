"""Objectives written as plain loops over one segment: the independent reference of the tests."""

from __future__ import annotations

from collections.abc import Sequence


def replace_runs(tokens: Sequence[int], mask: Sequence[bool], size: int) -> list[int]:
    """Each maximal run of masked tokens becomes the next sentinel."""
    out: list[int] = []
    sentinels, before = 0, False
    for token, masked in zip(tokens, mask, strict=True):
        if not masked:
            out.append(token)
        elif not before:
            out.append(size - 1 - sentinels)
            sentinels += 1
        before = masked
    return out


def rebuild(inputs: Sequence[int], targets: Sequence[int], lowest_sentinel: int) -> list[int]:
    """The segment whose corruption gave `inputs` and `targets` (both with EOS), by laying their runs side by side."""
    sides = [_runs(inputs[:-1], lowest_sentinel), _runs(targets[:-1], lowest_sentinel)]
    turn = 0 if inputs[0] < lowest_sentinel else 1
    out: list[int] = []
    while sides[turn]:
        out += sides[turn].pop(0)
        turn = 1 - turn
    assert not sides[1 - turn]
    return out


def _runs(tokens: Sequence[int], lowest_sentinel: int) -> list[list[int]]:
    runs: list[list[int]] = [[]]
    for token in tokens:
        if token >= lowest_sentinel:
            runs.append([])
        else:
            runs[-1].append(token)
    return [run for run in runs if run]
