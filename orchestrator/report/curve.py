"""A loss curve as text, for terminals and logs."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def sketch(steps: Sequence[float], values: Sequence[float], width: int = 60, height: int = 10) -> str:
    """Draw `values` over `steps` in braille dots, `width` x `height` characters, with the axes' ends written.

    Raises `ValueError` when there is nothing finite to draw.
    """
    points = [(x, y) for x, y in zip(steps, values, strict=True) if math.isfinite(y)]
    if not points:
        raise ValueError("no finite value to draw")
    left, right = points[0][0], points[-1][0]
    low, high = min(y for _, y in points), max(y for _, y in points)
    cells = [[0] * width for _ in range(height)]
    xs, ys = zip(*points, strict=True)
    before = None
    for dot in range(2 * width):
        y = _at(xs, ys, left + (right - left) * dot / (2 * width - 1))
        row = round((high - y) / ((high - low) or 1) * (4 * height - 1))
        # Steep pieces are drawn as a stroke from the dot before, so the curve has no holes.
        for filled in {row, *(range(before, row) if before is not None else ()), *range(row, before or 0)}:
            cells[filled // 4][dot // 2] |= _DOTS[filled % 4][dot % 2]
        before = row
    margin = max(len(f"{high:.2f}"), len(f"{low:.2f}"))
    lines = []
    for place, row_cells in enumerate(cells):
        label = f"{high:.2f}" if place == 0 else f"{low:.2f}" if place == height - 1 else ""
        lines.append(f"{label:>{margin}} | " + "".join(chr(0x2800 + cell) for cell in row_cells).rstrip("\u2800"))
    ends = f"{left:g}"
    return "\n".join([*lines, " " * (margin + 3) + ends + f"{right:g}".rjust(width - len(ends))])


def _at(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """The curve's height at `x`, on the straight line between its neighbors."""
    after = min(max(bisect_left(xs, x), 1), len(xs) - 1) if len(xs) > 1 else 0
    if after == 0 or xs[after] == xs[after - 1]:
        return ys[after]
    share = (x - xs[after - 1]) / (xs[after] - xs[after - 1])
    return ys[after - 1] + share * (ys[after] - ys[after - 1])
