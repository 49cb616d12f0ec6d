"""Configurations: presets, files, environment and overrides in their order, and errors that name the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import UserError
from orchestrator.config import Config, dump, from_values, load, presets, read_yaml


def test_all_presets_are_valid() -> None:
    for name in presets():
        assert load([name], environment={}).steps > 0


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("preset: embedded\nsteps: 7\ncheckpoint: {every: 3}\nlog: {every: 2}\n")
    config = load(
        ["baseline", str(file)], ["log.every=5"], {"T5_CHECKPOINT__EVERY": "4", "T5_KUBERAY_CRDS": "/x", "OTHER": "1"}
    )
    assert (config.model, config.steps) == ("tiny", 7)
    assert (config.checkpoint.every, config.log.every, config.checkpoint.keep) == (4, 5, 3)


def test_a_dumped_configuration_reads_back_equal() -> None:
    config = load(["embedded"], ["workers=2..8", "tasks=[a.yaml, b.py]", "batch.lanes=8"], {})
    assert from_values(read_yaml(dump(config), "dump")) == config


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stepz=5", ["stepz", "5", "did you mean steps?"]),
        ("checkpoint.evry=3", ["checkpoint.evry", "did you mean checkpoint.every?"]),
        ("every=3", ["unknown key every"]),
        ("steps=abc", ["steps", "'abc'", "integer"]),
        ("options.dropout=1.5", ["options.dropout", "1.5", "less than 1"]),
        ("batch.lanes=5", ["batch.lanes=5", "batch.rows=32", "take batch.lanes=4"]),
        ("workers=3..2", ["workers=3..2", "2..3"]),
        ("workers=32", ["batch.lanes=16", "32 data-parallel workers"]),
        ("parallel.precision=fp16", ["parallel.precision", "fp16", "overflow", "bf16"]),
        ("parallel.tensor=3", ["workers=1", "parallel.tensor=3", "take 3"]),
        ("train.parameters=adapters", ["needs options.adapter"]),
        ("train={parameters: gradual_unfreezing, episodes: 100000}", ["steps=500", "lower train.episodes"]),
        ("aws_secret_access_key=x", ["aws_secret_access_key", "environment"]),
        ("storage=s3://user:pass@bucket/x", ["user information"]),
        ("justtext", ["justtext", "key=value"]),
    ],
)
def test_mistakes_are_named_with_their_mend(override: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        load(["embedded"], [override], {})
    for word in words:
        assert word in str(error.value)


def test_several_mistakes_are_told_at_once() -> None:
    with pytest.raises(UserError, match=r"batch\.lanes.*in_backward"):
        load(["embedded"], ["batch.lanes=5", "optimizer.in_backward=true", "batch.accumulate=2"], {})
    with pytest.raises(UserError, match="gradual_unfreezing needs it false"):
        load(["embedded"], ["optimizer.in_backward=true", "train.parameters=gradual_unfreezing"], {})


def test_unknown_sources_and_repeated_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean the preset 'embedded'"):
        load(["embeded"], environment={})
    file = tmp_path / "twice.yaml"
    file.write_text("steps: 1\nsteps: 2\n")
    with pytest.raises(UserError, match="'steps' stands twice"):
        load([str(file)], environment={})
    file.write_text("steps: [")
    with pytest.raises(UserError, match="is not YAML"):
        load([str(file)], environment={})


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    file = tmp_path / "evil.yaml"
    file.write_text("steps: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(UserError, match="is not YAML"):
        load([str(file)], environment={})


def test_every_key_has_a_type_and_sections_are_frozen() -> None:
    config = Config()
    with pytest.raises(Exception, match="frozen"):
        config.checkpoint.every = 3  # type: ignore[misc]
