"""Masks against loops, for rows drawn at random."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from model import masks

lengths = st.integers(1, 7)
segments = st.lists(st.integers(1, 4), min_size=0, max_size=4)


def row(parts: list[int], length: int) -> list[int]:
    """Segments of the given sizes numbered from 1, then padding up to `length`."""
    numbers = [n for n, size in enumerate(parts, start=1) for _ in range(size)]
    return (numbers + [0] * length)[:length]


@given(lengths, lengths, st.integers(0, 5))
def test_causal(queries: int, keys: int, first: int) -> None:
    mask = masks.causal(queries, keys, first_query=first)
    assert mask.shape == (1, 1, queries, keys)
    assert mask[0, 0].tolist() == [[j <= i + first for j in range(keys)] for i in range(queries)]


@given(st.lists(segments, min_size=1, max_size=3), lengths, st.data())
def test_decoder(parts: list[list[int]], length: int, data: st.DataObject) -> None:
    rows = [row(sizes, length) for sizes in parts]
    prefix = data.draw(st.one_of(st.none(), st.lists(
        st.lists(st.booleans(), min_size=length, max_size=length), min_size=len(rows), max_size=len(rows)
    )))  # fmt: skip
    flags = None if prefix is None else torch.tensor(prefix)
    mask = masks.decoder_mask(length, torch.tensor(rows), flags, torch.device("cpu"))
    for b, numbers in enumerate(rows):
        for i in range(length):
            for j in range(length):
                seen = j <= i or (prefix is not None and prefix[b][j])
                assert mask[b, 0, i, j].item() == (numbers[i] == numbers[j] and seen)


@given(st.lists(st.tuples(segments, segments), min_size=1, max_size=3), lengths, lengths)
def test_cross_attention(parts: list[tuple[list[int], list[int]]], targets: int, inputs: int) -> None:
    target_rows = [row(sizes, targets) for sizes, _ in parts]
    input_rows = [row(sizes, inputs) for _, sizes in parts]
    packed = masks.cross_mask(torch.tensor(target_rows), torch.tensor(input_rows))
    padded = masks.cross_mask(None, torch.tensor(input_rows))
    for b in range(len(parts)):
        for i in range(targets):
            for j in range(inputs):
                assert packed[b, 0, i, j].item() == (target_rows[b][i] == input_rows[b][j])
                assert padded[b, 0, 0, j].item() == (input_rows[b][j] != 0)


def test_dense_rows_have_no_cross_mask() -> None:
    assert masks.cross_mask(None, None) is None
    assert masks.cross_mask(torch.ones(1, 2), None) is None


def test_the_additive_form_hides_without_infinities() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        added = masks.additive(torch.tensor([[True, False]]), dtype)
        assert added.dtype == dtype
        assert added.isfinite().all()
        assert added[0, 0] == 0
        weights = (torch.tensor([[0.0, 1000.0]], dtype=dtype) + added).float().softmax(-1)
        assert weights.tolist() == [[1.0, 0.0]]
