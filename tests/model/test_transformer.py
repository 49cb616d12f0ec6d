"""Every architecture against the float64 reference: dense, padded and packed rows."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from data.errors import UserError
from model.config import T5Config
from model.initialize import initialize
from model.masks import padding_segments
from model.transformer import T5, Batch, shift_right
from tests.model import reference

SHAPE = {"vocab_rows": 40, "d_model": 12, "d_ff": 20, "d_kv": 5, "heads": 3, "encoder_layers": 2, "decoder_layers": 2}
LM = SHAPE | {"encoder_layers": 0}
CONFIGS = {
    "encoder_decoder": T5Config(**SHAPE),
    "v1.1": T5Config(**SHAPE, feed_forward="gated-gelu", tied=False),
    "shared": T5Config(**SHAPE, architecture="shared"),
    "language_model": T5Config(**LM, architecture="language_model"),
    "prefix_lm": T5Config(**LM, architecture="prefix_lm"),
    "adapters": T5Config(**SHAPE, adapter=4),
}


@dataclass
class Example:
    inputs: list[int]
    targets: list[int]
    prefix: int


def example(seed: int, inputs: int, targets: int) -> Example:
    ids = torch.randint(1, 40, (inputs + targets,), generator=torch.Generator().manual_seed(seed)).tolist()
    return Example(ids[:inputs], ids[inputs:], min(inputs, targets) // 2 + 1)


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> T5:
    model = T5(CONFIGS[request.param]).double()
    initialize(model, seed=5)
    return model


def expected(model: T5, one: Example) -> Tensor:
    prefix = one.prefix if model.config.architecture == "prefix_lm" else 0
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    return reference.hidden(parameters, model.config, one.inputs, one.targets, prefix)


def prefixes(model: T5, rows: list[list[Example]], length: int) -> Tensor | None:
    if model.config.architecture != "prefix_lm":
        return None
    flags = [[j < one.prefix for one in row for j in range(len(one.targets))] for row in rows]
    return torch.tensor([row + [False] * (length - len(row)) for row in flags])


def padded(rows: list[list[int]]) -> Tensor:
    length = max(map(len, rows))
    return torch.tensor([row + [0] * (length - len(row)) for row in rows])


def test_dense_rows(model: T5) -> None:
    rows = [[example(seed, 25, 21)] for seed in range(2)]
    batch = Batch(
        inputs=None if model.config.decoder_only else padded([row[0].inputs for row in rows]),
        targets=padded([row[0].targets for row in rows]),
        prefix=prefixes(model, rows, 21),
    )
    for got, row in zip(model(batch), rows, strict=True):
        torch.testing.assert_close(got, expected(model, row[0]), rtol=1e-9, atol=1e-9)


def test_padded_rows(model: T5) -> None:
    rows = [[example(1, 9, 4)], [example(2, 3, 8)]]
    inputs, targets = padded([row[0].inputs for row in rows]), padded([row[0].targets for row in rows])
    batch = Batch(
        inputs=None if model.config.decoder_only else inputs,
        targets=targets,
        input_segments=None if model.config.decoder_only else padding_segments(inputs),
        prefix=prefixes(model, rows, 8),
    )
    assert batch.counted().sum() == 12
    for got, row in zip(model(batch), rows, strict=True):
        torch.testing.assert_close(got[: len(row[0].targets)], expected(model, row[0]), rtol=1e-9, atol=1e-9)


def test_packed_rows_equal_their_examples_alone(model: T5) -> None:
    rows = [[example(1, 9, 4), example(2, 5, 7), example(3, 2, 1)], [example(4, 6, 6), example(5, 8, 3)]]
    inputs = padded([[i for one in row for i in one.inputs] for row in rows])
    targets = padded([[i for one in row for i in one.targets] for row in rows])
    numbers = [list(enumerate(row, start=1)) for row in rows]
    decoder_only = model.config.decoder_only
    batch = Batch(
        inputs=None if decoder_only else inputs,
        targets=targets,
        input_segments=None if decoder_only else padded([[n for n, e in row for _ in e.inputs] for row in numbers]),
        target_segments=padded([[n for n, e in row for _ in e.targets] for row in numbers]),
        prefix=prefixes(model, rows, targets.shape[1]),
    )
    hidden = model(batch)
    assert hidden.isfinite().all()
    for got, row in zip(hidden, rows, strict=True):
        start = 0
        for one in row:
            end = start + len(one.targets)
            torch.testing.assert_close(got[start:end], expected(model, one), rtol=1e-9, atol=1e-9)
            start = end


def test_logits_are_scaled_where_the_embedding_is_tied() -> None:
    hidden = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(0))
    for name, scale in (("encoder_decoder", 12**-0.5), ("v1.1", 1.0)):
        model = T5(CONFIGS[name])
        matrix = model.embedding.weight if name == "encoder_decoder" else model.head.weight
        torch.testing.assert_close(model.project(hidden), scale * hidden @ matrix.T)


def test_every_example_of_a_packed_row_starts_with_the_start_symbol() -> None:
    targets = torch.tensor([[5, 6, 7, 8, 9, 0]])
    segments = torch.tensor([[1, 1, 2, 2, 2, 0]])
    assert shift_right(targets, segments).tolist() == [[0, 5, 0, 7, 8, 0]]
    # Rows travel with segments of one unsigned byte.
    assert shift_right(targets, segments.to(torch.uint8)).tolist() == [[0, 5, 0, 7, 8, 0]]
    assert shift_right(targets, None).tolist() == [[0, 5, 6, 7, 8, 9]]


def test_a_batch_that_does_not_fit_the_architecture_is_refused() -> None:
    targets = torch.ones(1, 3, dtype=torch.long)
    with pytest.raises(UserError, match=r"Batch\.prefix"):
        T5(CONFIGS["prefix_lm"])(Batch(None, targets))
    with pytest.raises(UserError, match=r"Batch\.inputs is None"):
        T5(CONFIGS["shared"])(Batch(None, targets))


def test_all_blocks_of_a_stack_have_the_same_code_and_names() -> None:
    model = T5(CONFIGS["v1.1"])
    assert "encoder.blocks.1.attention.q.weight" in dict(model.named_parameters())
    for blocks in (model.encoder.blocks, model.decoder.blocks):
        names = [sorted(name for name, _ in block.named_parameters()) for block in blocks]
        assert names[0] == names[1]


def test_heads_follow_from_the_width_of_the_projections() -> None:
    """A device that holds one head of three computes that head's share of the sum."""
    config = CONFIGS["encoder_decoder"]
    whole = T5(config).double()
    initialize(whole, 1)
    attention = whole.decoder.blocks[0].attention
    x = torch.randn(2, 4, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bias = whole.decoder.relative_bias(4, 4, bidirectional=False)
    parts = []
    for head in range(3):
        part = T5(config).double().decoder.blocks[0].attention
        rows = slice(5 * head, 5 * head + 5)
        for name in "qkv":
            getattr(part, name).weight = torch.nn.Parameter(getattr(attention, name).weight[rows])
        part.o.weight = torch.nn.Parameter(attention.o.weight[:, rows])
        parts.append(part(x, bias[:, head : head + 1]))
    torch.testing.assert_close(sum(parts), attention(x, bias))
