"""Unsupervised objectives by name: every row of the paper's Tables 3 to 7, at any density, span and length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data.errors import UserError
from data.naming import unknown
from data.objectives.deshuffling import Deshuffling
from data.objectives.iid import BertStyle, IidDropTokens, IidReplaceSpans, MassStyle
from data.objectives.language import CausalLM, PrefixLM
from data.objectives.lengths import span_lengths
from data.objectives.objective import Objective
from data.objectives.segments import Examples, Ragged
from data.objectives.spans import SpanCorruption

__all__ = ["NAMES", "Examples", "Objective", "ObjectiveSpec", "Ragged", "create"]


@dataclass(frozen=True)
class ObjectiveSpec:
    """An objective as plain data.

    `density` is the share of masked tokens, `mean_span` counts tokens. `raw_length` is the number of tokens a
    segment has before corruption; None takes the rule of the objective: what fills the inputs exactly for span
    corruption, one below the longest whole-segment feature (511 of 512) for the others. Release-day code used
    512 there and cut the overflow: set 512 to reproduce it.
    """

    name: str = "span_corruption"
    density: float = 0.15
    mean_span: float = 3.0
    raw_length: int | None = None


@dataclass(frozen=True)
class _Lengths:
    inputs: int
    targets: int
    raw: int
    size: int


def _iid_targets(spec: ObjectiveSpec, inputs: int) -> int:
    """The released caps at 512 inputs (103, 192, 256, 512 by density), in proportion elsewhere."""
    caps = {0.10: 103, 0.15: 192, 0.25: 256, 0.50: 512}
    cap = caps.get(round(spec.density, 4), min(512, round(512 * min(1.0, spec.density * 1.3))))
    return max(4, round(cap * inputs / 512))


def _drop_targets(spec: ObjectiveSpec, inputs: int) -> int:
    """The released cap is 104 of 512 at density 0.15; other densities keep its margin above the mean."""
    return max(4, min(inputs, round(inputs * spec.density * 104 / 76.8)))


def _span(spec: ObjectiveSpec, at: _Lengths) -> Objective:
    return SpanCorruption(at.inputs, at.targets, at.raw, at.size, spec.density, spec.mean_span)


def _whole(spec: ObjectiveSpec, inputs: int) -> int:
    return inputs


@dataclass(frozen=True)
class _Entry:
    build: Callable[[ObjectiveSpec, _Lengths], Objective]
    targets: Callable[[ObjectiveSpec, int], int]


_ENTRIES: dict[str, _Entry] = {
    "span_corruption": _Entry(_span, lambda s, n: span_lengths(n, s.density, s.mean_span)[1]),
    "iid_replace": _Entry(
        lambda s, at: IidReplaceSpans(at.inputs, at.targets, at.raw, at.size, s.density), _iid_targets
    ),
    "iid_drop": _Entry(lambda s, at: IidDropTokens(at.inputs, at.targets, at.raw, at.size, s.density), _drop_targets),
    "bert_style": _Entry(lambda s, at: BertStyle(at.inputs, at.targets, at.raw, at.size, s.density), _whole),
    "mass_style": _Entry(lambda s, at: MassStyle(at.inputs, at.targets, at.raw, at.size, s.density), _whole),
    "deshuffling": _Entry(lambda s, at: Deshuffling(at.inputs, at.targets, at.raw, at.size), _whole),
    "prefix_lm": _Entry(lambda s, at: PrefixLM(at.inputs, at.targets, at.raw, at.size), _whole),
    "lm": _Entry(lambda s, at: CausalLM(1, at.targets, at.raw, at.size), _whole),
}

NAMES = tuple(sorted(_ENTRIES))


def default_targets_length(spec: ObjectiveSpec, inputs_length: int) -> int:
    """The maximum target length (with EOS) that goes with `inputs_length`, by the released lengths.

    For `lm`, which has no inputs, `inputs_length` is taken as the length of the whole row.
    """
    return _entry(spec).targets(spec, inputs_length)


def create(spec: ObjectiveSpec, inputs_length: int, targets_length: int, vocabulary_size: int) -> Objective:
    """The objective that `spec` names, for these maximum lengths (with EOS).

    Raises UserError for an unknown name, for a density or span out of range, and where the targets of span
    corruption do not fit `targets_length`.
    """
    entry = _entry(spec)
    if not 0 < spec.density < 1:
        raise UserError(f"density {spec.density} must lie between 0 and 1")
    if spec.mean_span < 1:
        raise UserError(f"mean_span {spec.mean_span} must be at least 1 token")
    raw = spec.raw_length
    if spec.name == "span_corruption":
        filling, needed = span_lengths(inputs_length, spec.density, spec.mean_span)
        raw = raw if raw is not None else filling
        if raw == filling and needed > targets_length:
            raise UserError(
                f"span corruption of {inputs_length} inputs needs targets of {needed} tokens, but targets_length is "
                f"{targets_length}; set it to {needed}"
            )
    elif raw is None:
        raw = (targets_length if spec.name == "lm" else inputs_length) - 1
    return entry.build(spec, _Lengths(inputs_length, targets_length, raw, vocabulary_size))


def _entry(spec: ObjectiveSpec) -> _Entry:
    if spec.name not in _ENTRIES:
        raise unknown("objective", spec.name, NAMES)
    return _ENTRIES[spec.name]
