"""Which weights are evaluated: permanent whole checkpoints, one a step; what is not there is named."""

import dataclasses
from pathlib import Path

import pytest

from data.errors import UserError
from data.storage import open_storage
from orchestrator.checkpoint import Manifest
from orchestrator.checkpoint.format import Kind
from orchestrator.evaluation.points import chosen, permanent, point_of
from orchestrator.initial import run_and_checkpoint


def commit(folder: Path, step: int, attempt: str = "a.1", kind: Kind = "permanent") -> Manifest:
    manifest = Manifest(step, attempt, kind, 1, "", {}, (), {})
    open_storage(folder).write(f"checkpoints/{manifest.folder}/manifest.json", manifest.encode())
    return manifest


def test_permanent_checkpoints_come_oldest_first_and_one_a_step(tmp_path: Path) -> None:
    commit(tmp_path, 20)
    commit(tmp_path, 10, "a.1")
    later = commit(tmp_path, 10, "b.2")
    commit(tmp_path, 15, kind="ephemeral")
    (tmp_path / "checkpoints/step-000000030-a.1").mkdir()
    (tmp_path / "checkpoints/step-000000040-a.1").mkdir()
    (tmp_path / "checkpoints/step-000000040-a.1/manifest.json").write_text("torn")
    found = permanent(open_storage(tmp_path))
    assert [(manifest.step, manifest.attempt) for manifest in found] == [(10, later.attempt), (20, "a.1")]


def test_steps_are_all_last_or_one_that_is_there(tmp_path: Path) -> None:
    manifests = [commit(tmp_path, step) for step in (10, 20)]
    assert chosen(manifests, "all") == manifests
    assert chosen(manifests, "last") == manifests[1:]
    assert chosen(manifests, "10") == manifests[:1]
    assert chosen([], "all") == chosen([], "last") == []
    for wrong in ("15", "first"):
        with pytest.raises(UserError, match=f"--steps {wrong}: .* there are: 10, 20"):
            chosen(manifests, wrong)


def test_a_checkpoint_written_again_is_other_weights(tmp_path: Path) -> None:
    manifest = commit(tmp_path, 10)
    again = dataclasses.replace(manifest, attempt="b.2")
    first, second = point_of("/runs/a", manifest), point_of("/runs/a", again)
    assert first.label == second.label == "10"
    assert first.mark != second.mark
    assert first.sources == ("/runs/a/checkpoints/step-000000010-a.1",)
    assert point_of("s3://b/a?region=x", manifest).sources[0] == ("s3://b/a/checkpoints/step-000000010-a.1?region=x")


@pytest.mark.parametrize(
    ("source", "run", "checkpoint"),
    [
        ("/a/b", "/a/b", None),
        ("runs/a/", "runs/a", None),
        ("/a/b/checkpoints/step-000000010-a.1", "/a/b", "step-000000010-a.1"),
        ("s3://b/a?region=x", "s3://b/a?region=x", None),
        ("s3://b/a/checkpoints/step-000000010-a.1?region=x", "s3://b/a?region=x", "step-000000010-a.1"),
    ],
)
def test_a_checkpoint_tells_its_run_and_the_urls_options_stay(source: str, run: str, checkpoint: str | None) -> None:
    assert run_and_checkpoint(source) == (run, checkpoint)
