"""Sizes of parameters, state and checkpoints against those of real models and optimizers."""

import math
from dataclasses import replace

import pytest

from model.config import T5Config, sized
from model.freezing import trained_names
from orchestrator.forecast.scenario import Scenario
from orchestrator.forecast.sizes import checkpoint_bytes, cut_axis, pieces
from orchestrator.optimizers.adafactor import Adafactor
from orchestrator.optimizers.adamw import AdamW
from orchestrator.parallel.layout import Layout
from orchestrator.parallel.parallelize import build_model, state_tensors

SMALL = T5Config(d_model=128, d_ff=160, d_kv=16, heads=4, encoder_layers=1, decoder_layers=2, vocab_rows=256)


def scenario(model: T5Config, tensor: int = 1, world: int = 1, **changes: object) -> Scenario:
    plain = {"rows": 8, "lanes": 8, "accumulate": 1, "input_length": 512, "target_length": 114}
    return Scenario(model=model, layout=Layout(tensor=tensor), world=world, **(plain | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_a_checkpoint_is_as_large_as_the_tensors_in_it(name: str) -> None:
    model = build_model(SMALL, Layout(), None, seed=0, device="cpu")
    optimizer = {"adafactor": Adafactor, "adamw": AdamW}[name](model.parameters())
    real = sum(tensor.nbytes for tensor in state_tensors(model, optimizer).values())
    assert checkpoint_bytes(scenario(SMALL, optimizer=name)) == real


def test_frozen_parameters_have_no_state() -> None:
    config = replace(SMALL, adapter=8)
    frozen = scenario(config, optimizer="adamw", trained=trained_names(config, "adapters"))
    state = sum(piece.state for piece in pieces(frozen))
    assert state == 2 * sum(piece.held for piece in pieces(frozen) if ".adapter" in piece.name)


@pytest.mark.parametrize("name", ["base", "11B", "v1.1-xxl"])
def test_one_device_holds_everything(name: str) -> None:
    config = sized(name)
    assert sum(piece.held for piece in pieces(scenario(config))) == config.parameters()


@pytest.mark.parametrize("tensor", [2, 4])
def test_tensor_parallel_ranks_hold_all_cut_parameters_together(tensor: int) -> None:
    found = pieces(scenario(SMALL, tensor, tensor))
    whole = sum(piece.used * (1 if cut_axis(piece.name) is None else tensor) for piece in found)
    assert whole == SMALL.parameters()


def test_shards_hold_everything_together_with_little_padding() -> None:
    config = sized("3B")
    held = sum(piece.held for piece in pieces(scenario(config, world=64, lanes=64, rows=64)))
    assert config.parameters() <= 64 * held <= 1.001 * config.parameters()


def test_adafactor_keeps_rows_and_columns() -> None:
    wo = next(p for p in pieces(scenario(SMALL)) if p.name == "encoder.blocks.0.feed_forward.wo.weight")
    assert (wo.held, wo.state) == (128 * 160, 128 + 160)
    bias = next(p for p in pieces(scenario(SMALL)) if p.name == "encoder.relative_bias.weight")
    assert bias.state == math.prod((4, 32))
