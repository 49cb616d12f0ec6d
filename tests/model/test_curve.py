"""Fifty steps of training: the same run twice is the same to the last bit, and the curve is the recorded one.

To record the curve again after an intended change: `python -m tests.model.test_curve`.
"""

import json
from pathlib import Path

import pytest
import torch

from model.config import T5Config
from model.initialize import initialize
from model.loss import cross_entropy
from model.transformer import T5, Batch

RECORDED = Path(__file__).with_name("curve.json")
STEPS = 50
CONFIGS = {
    "v1.0": T5Config(vocab_rows=96, d_model=32, d_ff=64, d_kv=8, heads=4, encoder_layers=2, decoder_layers=2),
    "prefix_lm": T5Config(
        vocab_rows=96, d_model=32, d_ff=64, d_kv=8, heads=4, encoder_layers=0, decoder_layers=2,
        feed_forward="gated-gelu", tied=False, architecture="prefix_lm",
    ),
}  # fmt: skip


def batch(step: int, config: T5Config) -> Batch:
    """Reverse eight of the first words: rows, packing and dropout keys are functions of the step."""
    words = torch.randint(2, 12, (16, 8), generator=torch.Generator().manual_seed(step))
    answer = torch.cat([words.flip(1), torch.ones(16, 1, dtype=torch.long)], 1)
    keys = torch.arange(16) + 16 * step
    if not config.decoder_only:
        return Batch(words, answer, row_keys=keys)
    joined = torch.cat([words, answer], 1)
    return Batch(None, joined, prefix=(torch.arange(17) < 9).expand(16, 17), row_keys=keys)


def curve(config: T5Config) -> list[float]:
    """Loss a token at each step under plain SGD with momentum, dropout on."""
    model = T5(config)
    initialize(model, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for step in range(STEPS):
        rows = batch(step, config)
        hidden = model(rows)
        sums = cross_entropy(model.scale_output(hidden), model.output_weight, rows.targets, rows.counted(), chunk=50)
        (sums.loss / sums.tokens).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append((sums.loss / sums.tokens).item())
    return losses


@pytest.mark.parametrize("name", CONFIGS)
def test_the_curve_is_the_recorded_one_and_repeats_bit_for_bit(name: str) -> None:
    first, second = curve(CONFIGS[name]), curve(CONFIGS[name])
    assert first == second
    assert sum(first[-10:]) < 0.8 * sum(first[:10])
    assert first == pytest.approx(json.loads(RECORDED.read_text())[name], abs=1e-4)


if __name__ == "__main__":
    RECORDED.write_text(json.dumps({name: curve(config) for name, config in CONFIGS.items()}, indent=1) + "\n")
