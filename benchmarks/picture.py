"""Curves as an SVG picture that stands by itself: a logarithmic axis across, shares upward."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

_COLORS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7a4e9f", "#8a6d1d")
_WIDTH, _HEIGHT = 720, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 130, 60, 60


def curves(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    note: str,
    across: str,
    up: str,
    aim: float,
) -> str:
    """One curve for each of `lines`, points (x above 0, share), its name at its end; a dashed line at `aim`."""
    xs = sorted({x for points in lines.values() for x, _ in points})
    low = min(y for points in lines.values() for _, y in points)
    bottom = math.floor(low * 20) / 20
    if bottom == 1.0:
        bottom = 0.95

    def place(x: float, y: float) -> tuple[float, float]:
        wide = (math.log(x) - math.log(xs[0])) / max(1e-9, math.log(xs[-1]) - math.log(xs[0]))
        high = (y - bottom) / (1 - bottom)
        return (
            _LEFT + wide * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - high * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [_text(_LEFT, 28, title, 18), _text(_LEFT, 46, note, 12)]
    parts.append(_text(_LEFT, _HEIGHT - 14, across, 12))
    parts.append(f'<g transform="rotate(-90 18 {_HEIGHT / 2})">{_text(18, _HEIGHT / 2, up, 12, "middle")}</g>')
    steps = max(1, round((1 - bottom) * 100 / 5))
    for number in range(steps + 1):
        y = bottom + (1 - bottom) * number / steps
        left, height = place(xs[0], y)
        parts.append(f'<path d="M{left:.1f} {height:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(_text(left - 8, height + 4, f"{y:.0%}", 12, "end"))
    for x in xs:
        parts.append(_text(place(x, bottom)[0], _HEIGHT - _BOTTOM + 18, f"{x:g}", 12, "middle"))
    left, height = place(xs[0], aim)
    parts.append(f'<path d="M{left:.1f} {height:.1f}H{_WIDTH - _RIGHT}" stroke="#888" stroke-dasharray="4 4"/>')
    ends: list[float] = []
    for color, (name, points) in zip(_COLORS, lines.items(), strict=False):
        places = [place(x, y) for x, y in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.extend(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places)
        # Names of curves that end close together move apart.
        ends.append(max([places[-1][1], *(end + 16 for end in ends[-1:])]))
        parts.append(_text(places[-1][0] + 10, ends[-1] + 4, name, 12, fill=color))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'role="img" aria-label="{html.escape(title)}">\n<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>\n'
        f"{body}\n</svg>\n"
    )


def _text(x: float, y: float, text: str, size: int, anchor: str = "start", fill: str = "#222") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">'
        f"{html.escape(text)}</text>"
    )
