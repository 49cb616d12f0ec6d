"""What may differ between a checkpoint and the run that takes it up."""

import pytest

from orchestrator.checkpoint import (
    CheckpointMismatch,
    KeyClasses,
    difference,
    require_same_fingerprint,
    require_same_run,
)

CLASSES = KeyClasses(free=frozenset({"log", "steps"}), compatible=frozenset({"workers", "batch.accumulate"}))
SAVED = {
    "steps": 100, "workers": "1", "seed": 0, "log": {"every": 10}, "batch": {"rows": 8, "accumulate": 1},
    "tasks": ("a", "b"), "options": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("log.every", "free"), ("steps", "free"), ("logging.every", "frozen"), ("workers", "compatible"),
        ("batch.accumulate", "compatible"), ("batch.rows", "frozen"), ("batch", "frozen"), ("new.key", "frozen"),
    ],
)  # fmt: skip
def test_classes_cover_sections(key: str, kind: str) -> None:
    assert CLASSES.of(key) == kind


def test_difference_lists_frozen_keys_first() -> None:
    current = SAVED | {"steps": 200, "workers": "2..8", "seed": 1, "log": {"every": 20, "format": "json"}}
    changes = difference(SAVED, current, CLASSES)
    assert [(change.key, change.kind) for change in changes] == [
        ("seed", "frozen"), ("workers", "compatible"), ("log.every", "free"), ("log.format", "free"), ("steps", "free"),
    ]  # fmt: skip
    assert str(changes[0]) == "seed: 0 in the checkpoint, 1 now (frozen)"
    assert str(changes[3]) == "log.format: '(absent)' in the checkpoint, 'json' now (free)"


def test_json_keeps_no_tuples() -> None:
    assert difference(SAVED, SAVED | {"tasks": ["a", "b"]}, CLASSES) == []


def test_frozen_changes_are_refused_and_others_returned() -> None:
    allowed = require_same_run(SAVED, SAVED | {"workers": "4"}, CLASSES)
    assert [change.key for change in allowed] == ["workers"]
    current = SAVED | {"batch": {"rows": 16, "accumulate": 1}, "options": {"version": "1.1"}}
    with pytest.raises(CheckpointMismatch, match=r"another run; batch\.rows: 8 .* 16 now \(frozen\); options\.v"):
        require_same_run(SAVED, current, CLASSES)


def test_fingerprints() -> None:
    require_same_fingerprint("vocabulary", "ab", "ab")
    with pytest.raises(CheckpointMismatch, match="vocabulary of the checkpoint has fingerprint ab, this run's has cd"):
        require_same_fingerprint("vocabulary", "ab", "cd")
