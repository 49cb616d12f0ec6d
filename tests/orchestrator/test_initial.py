"""Weights that a run starts from: what the source holds is taken, what is new keeps its drawn values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data.errors import UserError
from model.config import T5Config
from model.initialize import initialize
from model.transformer import T5
from orchestrator.checkpoint import Chunk
from orchestrator.initial import find, load_initial, require_fit
from tests.model.exports import export_model

CONFIG = T5Config(vocab_rows=64, d_model=16, d_ff=24, d_kv=4, heads=3, encoder_layers=2, decoder_layers=2)


def drawn(config: T5Config, seed: int) -> T5:
    model = T5(config)
    initialize(model, seed)
    return model


def test_fresh_adapters_are_added_to_trained_weights(tmp_path: Path) -> None:
    trained, fresh = drawn(CONFIG, 1), drawn(replace(CONFIG, adapter=8), 2)
    export_model(trained, tmp_path / "export")
    before = {name: parameter.detach().clone() for name, parameter in fresh.named_parameters()}
    chunks = {
        f"param/{name}": Chunk(parameter.shape, (0,) * parameter.ndim, parameter.detach(), True)
        for name, parameter in fresh.named_parameters()
    }
    load_initial(find(str(tmp_path / "export")), chunks, None, optimizer=True)
    held = dict(trained.named_parameters())
    for name, parameter in fresh.named_parameters():
        assert torch.equal(parameter, held.get(name, before[name])), name
    assert any("adapter" in name for name in before)


def test_adapters_may_be_added_but_not_resized(tmp_path: Path) -> None:
    export_model(drawn(replace(CONFIG, adapter=8), 1), tmp_path / "export")
    initial = find(str(tmp_path / "export"))
    require_fit(initial, replace(CONFIG, adapter=8, dropout=0.3), "any")
    with pytest.raises(UserError, match="adapter=8 there, 4 here"):
        require_fit(initial, replace(CONFIG, adapter=4), "any")
    with pytest.raises(UserError, match="d_model=16 there, 32 here"):
        require_fit(initial, replace(CONFIG, adapter=8, d_model=32), "any")
