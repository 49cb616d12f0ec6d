"""Planted credentials appear in no file that a run writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import dump, load
from orchestrator.scheduler.phase import Phase
from orchestrator.work import versions

PLANTED = {"AWS_SECRET_ACCESS_KEY": "planted-secret-3f9c", "RAY_AUTH_TOKEN": "planted-token-77aa"}


def test_what_a_run_writes_holds_no_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    config = load(["embedded"], [f"storage={tmp_path}"])
    (tmp_path / "config.yaml").write_text(dump(config))
    phase = Phase(config, 1)
    phase.event("start", **versions())
    phase.begin(0, ["a"])
    phase.finish("done")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    for path in written:
        for value in PLANTED.values():
            assert value.encode() not in path.read_bytes(), path
