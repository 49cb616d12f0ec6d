"""Dropout masks: right rate, shared along length, a function of keys alone, the same for every layout."""

import dataclasses

import pytest
import torch
from torch import Tensor

from model.attention import Attention
from model.config import T5Config, sized
from model.dropout import AttentionDropout, Dropout, derive, fold, keep_mask, mix
from model.initialize import initialize
from model.transformer import T5, Batch

CONFIG = T5Config(
    vocab_rows=50, d_model=24, d_ff=40, d_kv=8, heads=3, encoder_layers=2, decoder_layers=2, adapter=4, dropout=0.3
)


def keys(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return fold(torch.randint(-(2**62), 2**62, (count,), generator=generator))


def test_the_hash_is_exact_and_one_to_one() -> None:
    states = [0, 1, 2, 123456789, 2**31, 2**32 - 1]
    expected = []
    for state in states:
        for _ in range(2):
            state = (state ^ (state >> 16)) * 0x45D9F3B % 2**32
        expected.append(state ^ (state >> 16))
    assert mix(torch.tensor(states)).tolist() == expected
    assert len(mix(torch.arange(2**17)).unique()) == 2**17


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_rate_is_kept_in_every_direction(rate: float) -> None:
    mask = torch.stack([keep_mask(derive(keys(64), site), 0, 512, rate) for site in range(16)]).double()
    deviation = (rate * (1 - rate)) ** 0.5
    for kept_axis in range(3):
        others = [axis for axis in range(3) if axis != kept_axis]
        count = mask.numel() / mask.shape[kept_axis]
        means = mask.mean(others)
        assert (means - (1 - rate)).abs().max() < 4.5 * deviation / count**0.5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_neighbors_are_independent(axis: int) -> None:
    """Rows with consecutive keys, neighboring sites and neighboring channels."""
    rows = fold(torch.arange(64))
    mask = torch.stack([keep_mask(derive(rows, site), 0, 512, 0.5) for site in range(16)]).double() * 2 - 1
    neighbor = mask.roll(1, axis)
    assert (mask * neighbor).mean().abs() < 4.5 / mask.numel() ** 0.5


def test_a_mask_is_shared_along_length_and_keeps_the_mean() -> None:
    x = torch.ones(200, 5, 300)
    out = Dropout(0.1, site=3)(x, keys(200))
    assert torch.equal(out[:, :1].expand_as(out), out)
    assert out.mean().item() == pytest.approx(1.0, abs=5e-3)
    assert out.unique().tolist() == [0.0, pytest.approx(1 / 0.9)]


def test_no_keys_and_no_rate_change_nothing() -> None:
    x = torch.randn(2, 3, 4)
    assert Dropout(0.1, site=0)(x, None) is x
    assert Dropout(0.0, site=0)(x, keys(2)) is x
    assert AttentionDropout(0.0, site=0)(x[None], keys(1)) is not None


def test_a_part_of_the_channels_or_heads_drops_the_same_ones() -> None:
    x, v = torch.ones(4, 2, 60), torch.ones(4, 6, 7, 5)
    whole, part = Dropout(0.5, site=1), Dropout(0.5, site=1)
    part.offset = 20
    assert torch.equal(part(x[..., 20:40], keys(4)), whole(x, keys(4))[..., 20:40])
    heads, some = AttentionDropout(0.5, site=1), AttentionDropout(0.5, site=1)
    some.offset = 2
    assert torch.equal(some(v[:, 2:5], keys(4)), heads(v, keys(4))[:, 2:5])


def test_dropping_keys_of_values_equals_dropping_attention_weights() -> None:
    attention = Attention(CONFIG, site=0).double()
    x = torch.randn(2, 6, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mask = attention.dropout(torch.ones(2, 3, 6, 1, dtype=torch.float64), keys(2))[..., 0]
    assert 0 < (mask == 0).sum() < mask.numel()
    split = lambda y: y.view(2, 6, 3, 8).transpose(1, 2)  # noqa: E731
    q, k, v = (split(layer(x)) for layer in (attention.q, attention.k, attention.v))
    weights = (q @ k.mT).softmax(-1) * mask[:, :, None, :]
    expected = attention.o((weights @ v).transpose(1, 2).reshape(2, 6, 24))
    torch.testing.assert_close(attention(x, None, keys(2)), expected)


def batch(rows: list[int]) -> Batch:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(1, 50, (4, 12), generator=generator)
    return Batch(ids[rows, :7], ids[rows, 7:], row_keys=torch.tensor([11, 12, 2**40, -5])[rows])


def test_a_row_is_dropped_alike_wherever_it_stands() -> None:
    model = T5(CONFIG).double()
    initialize(model, 0)
    together = model(batch([0, 1, 2, 3]))
    torch.testing.assert_close(model(batch([2, 0])), together[[2, 0]], rtol=1e-12, atol=1e-12)
    other = dataclasses.replace(batch([0, 1, 2, 3]), row_keys=torch.tensor([11, 13, 2**40, -5]))
    changed = (model(other) - together).abs().amax((1, 2)) > 1e-3
    assert changed.tolist() == [False, True, False, False]


def test_every_place_of_the_original_drops() -> None:
    """Embedding, attention weights, each sublayer's output, inside the feed-forward, and the stack's output."""
    model = T5(CONFIG)
    names = {name for name, module in model.named_modules() if isinstance(module, Dropout)}
    block = {
        "attention.dropout",
        "attention_dropout",
        "feed_forward.dropout",
        "feed_forward_dropout",
        "adapter_dropout",
    }
    cross = {"cross_attention.dropout", "cross_attention_dropout"}
    expected = {f"{stack}.{place}_dropout" for stack in ("encoder", "decoder") for place in ("embedding", "output")}
    expected |= {f"encoder.blocks.{i}.{place}" for i in range(2) for place in block}
    expected |= {f"decoder.blocks.{i}.{place}" for i in range(2) for place in block | cross}
    assert names == expected
    for blocks in (model.encoder.blocks[0], model.decoder.blocks[0]):
        sites = [module.site for module in blocks.modules() if isinstance(module, Dropout)]
        assert len(set(sites)) == len(sites)


def test_the_two_passes_of_a_shared_stack_have_masks_of_their_own() -> None:
    model = T5(sized("tiny", architecture="shared", vocab_rows=50, dropout=0.5))
    initialize(model, 0)
    seen = []
    model.decoder.output_dropout.register_forward_hook(lambda module, args, out: seen.append(out[0, 0] == 0))
    model(batch([0]))
    assert len(seen) == 2
    assert not torch.equal(*seen)
