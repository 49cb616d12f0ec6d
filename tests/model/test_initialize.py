"""Initial values: the original's distributions, one stream a name, any slice by itself."""

import math

import pytest
import torch
from torch import Tensor

from data.errors import UserError
from model.config import T5Config, sized
from model.initialize import initial_slice, initial_value, initialize
from model.transformer import T5

CONFIG = T5Config(
    vocab_rows=640, d_model=256, d_ff=384, d_kv=24, heads=12, encoder_layers=1, decoder_layers=1,
    feed_forward="gated-gelu", tied=False, adapter=128,
)  # fmt: skip
INNER = 24 * 12
NORMAL = {
    ("embedding.weight", (640, 256)): 1.0,
    ("encoder.blocks.0.attention.q.weight", (INNER, 256)): (256 * 24) ** -0.5,
    ("decoder.blocks.0.cross_attention.k.weight", (INNER, 256)): 256**-0.5,
    ("decoder.blocks.0.attention.v.weight", (INNER, 256)): 256**-0.5,
    ("decoder.blocks.0.attention.o.weight", (256, INNER)): INNER**-0.5,
}
TRUNCATED = {
    ("encoder.blocks.0.feed_forward.wi.weight", (384, 256)): 256**-0.5,
    ("encoder.blocks.0.feed_forward.gate.weight", (384, 256)): 256**-0.5,
    ("encoder.blocks.0.feed_forward.wo.weight", (256, 384)): 384**-0.5,
    ("decoder.blocks.0.adapter.down.weight", (128, 256)): 256**-0.5,
    ("decoder.blocks.0.adapter.up.weight", (256, 128)): 128**-0.5,
    ("head.weight", (640, 256)): 256**-0.5,
}


def fraction_below(values: Tensor, points: Tensor) -> Tensor:
    return (values[:, None] < points).double().mean(0)


def normal_cdf(points: Tensor) -> Tensor:
    return torch.special.ndtr(points.double())


@pytest.mark.parametrize(("parameter", "deviation"), NORMAL.items())
def test_normal_matrices(parameter: tuple[str, tuple[int, int]], deviation: float) -> None:
    values = initial_value(*parameter, CONFIG, seed=1).flatten() / deviation
    points = torch.linspace(-3, 3, 25)
    worst = (fraction_below(values, points) - normal_cdf(points)).abs().max()
    assert worst < 2.0 / len(values) ** 0.5  # Kolmogorov-Smirnov, far below one in a thousand
    assert values.abs().max() > 3.5


@pytest.mark.parametrize(("parameter", "deviation"), TRUNCATED.items())
def test_truncated_matrices(parameter: tuple[str, tuple[int, int]], deviation: float) -> None:
    values = initial_value(*parameter, CONFIG, seed=1).flatten() / deviation
    points = torch.linspace(-2, 2, 25)
    low = 0.5 * math.erfc(math.sqrt(2))
    expected = (normal_cdf(points) - low) / (1 - 2 * low)
    assert (fraction_below(values, points) - expected).abs().max() < 2.0 / len(values) ** 0.5
    assert 1.9 < values.abs().max() <= 2.0001


def test_relative_bias_is_glorot_uniform_and_norms_are_one() -> None:
    values = torch.cat(
        [initial_value("encoder.relative_bias.weight", (12, 32), CONFIG, seed).flatten() for seed in range(20)]
    )
    limit = math.sqrt(6 / (12 + 32))
    assert values.abs().max() <= limit
    assert values.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.03)
    for name in ("encoder.norm.weight", "decoder.blocks.0.cross_attention_norm.weight"):
        assert torch.equal(initial_value(name, (256,), CONFIG, 1), torch.ones(256))


@pytest.mark.parametrize("shape", [(10, 13), (7, 1), (64,)])
def test_any_slice_is_that_slice_of_the_whole(shape: tuple[int, ...]) -> None:
    name = "embedding.weight"
    whole = initial_value(name, shape, CONFIG, seed=3)
    for first in range(0, shape[0], 3):
        for last in (first, first + 1, shape[0]):
            columns = [(0, shape[1]), (0, 1), (shape[1] // 2, shape[1])] if len(shape) == 2 else [None]
            for column in columns:
                ranges = [(first, last)] + ([column] if column else [])
                part = initial_slice(name, shape, ranges, CONFIG, seed=3)
                assert torch.equal(part, whole[tuple(slice(*r) for r in ranges)])


def test_streams_differ_by_name_and_seed_and_repeat() -> None:
    names = ["decoder.blocks.0.attention.k.weight", "decoder.blocks.0.attention.v.weight"]
    values = [initial_value(name, (48, 8), CONFIG, seed) for name in names for seed in (1, 2)]
    values.append(initial_value("decoder.blocks.1.attention.k.weight", (48, 8), CONFIG, 1))
    for i, one in enumerate(values):
        for other in values[i + 1 :]:
            assert abs(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) < 0.25
    assert torch.equal(values[0], initial_value(names[0], (48, 8), CONFIG, 1))


def test_the_first_values_are_golden() -> None:
    values = initial_value("embedding.weight", (2, 4), CONFIG, seed=0).flatten()
    expected = [-0.7954186, 0.3881717, 1.010692, -0.5718734, 0.7499055, -1.1253406, -0.3757228, -0.7836637]
    torch.testing.assert_close(values, torch.tensor(expected), rtol=1e-6, atol=1e-6)


def test_a_model_is_set_whole_and_a_foreign_name_is_refused() -> None:
    model = T5(sized("tiny", adapter=8, vocab_rows=128))
    initialize(model, seed=7)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, initial_value(name, tuple(parameter.shape), model.config, 7)), name
    with pytest.raises(UserError, match=r"'lm\.bias'"):
        initial_value("lm.bias", (3,), CONFIG, 0)
