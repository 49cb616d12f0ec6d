"""Planted credentials appear in nothing that a run writes, keeps or shows, also where an error quotes them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from data.storage import LocalStorage
from orchestrator.config import dump, load
from orchestrator.redaction import redact, redacted
from orchestrator.report.progress import Progress
from orchestrator.run import record_config
from orchestrator.scheduler.phase import Phase
from orchestrator.training import worker
from orchestrator.work import versions
from tests.orchestrator.training.worker_ranks import Seen, before_step, run_in, train_on_ranks, write_corpus

PLANTED = {
    "AWS_SECRET_ACCESS_KEY": "planted-secret-3f9c", "RAY_AUTH_TOKEN": "planted-token-77aa",
    "AWS_SESSION_TOKEN": "planted/session+token==",
}  # fmt: skip
KEY = "AKIA" + "PLANTED4THETESTS"
QUOTED = (
    f"GET https://bucket.s3.example/x?X-Amz-Credential={KEY}%2F20260101&X-Amz-Signature=planted0signature "
    f"Authorization: Bearer planted.bearer.word, key {KEY}, https://user:planted-word@host/, "
    + " ".join(PLANTED.values())
)
FORBIDDEN = [*PLANTED.values(), KEY, "planted0signature", "planted.bearer.word", "planted-word"]


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)


def require_clean(text: str | bytes, where: Any = "") -> None:
    text = text if isinstance(text, bytes) else text.encode()
    for value in FORBIDDEN:
        assert value.encode() not in text, f"{value} in {where}"


def require_clean_folder(folder: Path) -> None:
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert written
    for path in written:
        require_clean(path.read_bytes(), path)


def test_what_a_run_writes_holds_no_credential(tmp_path: Path) -> None:
    config = load(["embedded"], [f"storage={tmp_path}"])
    (tmp_path / "config.yaml").write_text(dump(config))
    phase = Phase(config, 1)
    phase.event("start", **versions())
    phase.begin(0, ["a"])
    phase.event("worker_failed", rank=0, node="a", error=f"Traceback\nOSError: {QUOTED}")
    phase.event("fault", fault="storage", message=QUOTED, deep=[{"why": (QUOTED,)}])
    phase.finish("failed", QUOTED)
    status = phase.status()
    require_clean(status.reason)
    require_clean(json.dumps(status.events, default=str))
    assert "OSError: GET https://bucket.s3.example/x?" in str(status.events)
    require_clean_folder(tmp_path)


@contextlib.contextmanager
def quoting_error(seen: Seen) -> Iterator[None]:
    def act(of: worker.Worker, step: int) -> None:
        if step == 4:
            of._saver.finish()
            raise OSError(QUOTED)

    # Ranks come from a server that has the environment of its own start.
    with before_step(act), mock.patch.dict(os.environ, PLANTED):
        yield


def test_no_file_of_a_run_whose_workers_failed_holds_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Configuration, ledger, metrics, checkpoints, lease: everything below the run's folder, and what was printed."""
    run = run_in(write_corpus(tmp_path / "corpus"), tmp_path / "runs", "workers=2", "steps=6", "checkpoint.every=2")
    record_config(run)
    ranks = train_on_ranks(run, disturb=quoting_error)
    assert all(seen.errors[0].startswith("OSError: GET") for seen in ranks)
    names = {path.name for path in (tmp_path / "runs").rglob("*")}
    assert {"config.yaml", "ledger", "metrics.jsonl", "checkpoints", "manifest.json"} <= names
    require_clean_folder(tmp_path / "runs")
    shown = capfd.readouterr()
    require_clean(shown.out + shown.err)


def test_what_is_shown_holds_none(capsys: pytest.CaptureFixture[str]) -> None:
    for style in ("text", "json"):
        with Progress(style) as progress:  # type: ignore[arg-type]
            progress.say(f"run: failed: {QUOTED}", {"kind": "fault", "message": QUOTED})
    require_clean(capsys.readouterr().out)


def test_only_credentials_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = "s3://bucket/x?endpoint=http://host:9000&region=eu: SlowDown; a@b, AKIA is a prefix, token 5 of 7"
    assert redact(plain) == plain
    monkeypatch.setenv("SOME_TOKEN", "true")
    assert redact("it is true") == "it is true"
    assert redacted({"a": (1, None, "x"), KEY: 2.5}) == {"a": [1, None, "x"], KEY: 2.5}
    assert redact("http://user@host/") == "http://[hidden]@host/"


def test_an_error_of_storage_quotes_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="planted") as raised:
        LocalStorage(tmp_path).write("x" * 300 + PLANTED["RAY_AUTH_TOKEN"], b"")
    require_clean(redact(str(raised.value)))
