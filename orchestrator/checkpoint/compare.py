"""Whether a checkpoint belongs to this run: a difference of two configurations, in three classes of keys.

Free keys (logging, intervals) may differ between a run and its resumption. Compatible ones (world size, rows per
device) may differ because the laws of data and layout make them so. All others are frozen: a key that nobody
has classed decides what is learned until somebody says that it does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.checkpoint.format import CheckpointMismatch

Class = Literal["free", "compatible", "frozen"]
_ABSENT = "(absent)"


@dataclass(frozen=True)
class KeyClasses:
    """Dotted keys, or sections with all that is in them, that are free or compatible; every other key is frozen."""

    free: frozenset[str] = frozenset()
    compatible: frozenset[str] = frozenset()

    def of(self, key: str) -> Class:
        """The class of a dotted key."""
        parts = key.split(".")
        sections = {".".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
        if sections & self.free:
            return "free"
        if sections & self.compatible:
            return "compatible"
        return "frozen"


@dataclass(frozen=True)
class Change:
    """One key whose values differ."""

    key: str
    saved: Any
    current: Any
    kind: Class

    def __str__(self) -> str:
        return f"{self.key}: {self.saved!r} in the checkpoint, {self.current!r} now ({self.kind})"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings as (dotted key, value); lists are leaves, an empty mapping has none."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def difference(saved: Mapping[str, Any], current: Mapping[str, Any], classes: KeyClasses) -> list[Change]:
    """All keys whose values differ, frozen ones first, then by key. Tuples equal lists, as JSON keeps no tuples."""
    before, after = dict(flatten(saved)), dict(flatten(current))
    order = ("frozen", "compatible", "free")
    changes = [
        Change(key, before.get(key, _ABSENT), after.get(key, _ABSENT), classes.of(key))
        for key in before.keys() | after.keys()
        if _plain(before.get(key, _ABSENT)) != _plain(after.get(key, _ABSENT))
    ]
    return sorted(changes, key=lambda change: (order.index(change.kind), change.key))


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def require_same_run(
    saved: Mapping[str, Any], current: Mapping[str, Any], classes: KeyClasses, what: str = "the checkpoint"
) -> list[Change]:
    """The changes that are allowed. Raises CheckpointMismatch that lists the frozen keys that differ."""
    changes = difference(saved, current, classes)
    frozen = [change for change in changes if change.kind == "frozen"]
    if frozen:
        raise CheckpointMismatch(
            f"{what} belongs to another run; " + "; ".join(map(str, frozen)) + ". Restore these values, or start "
            "a new run folder"
        )
    return changes


def require_same_fingerprint(what: str, saved: str, current: str) -> None:
    """Raises CheckpointMismatch where, say, the vocabulary's fingerprint is not the one in the checkpoint."""
    if saved != current:
        raise CheckpointMismatch(f"the {what} of the checkpoint has fingerprint {saved}, this run's has {current}: "
                                 f"use the {what} that the checkpoint was made with")  # fmt: skip
