"""Greedy and beam search against searches written out without caches, batches or tensors of hypotheses."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from data.errors import UserError
from model.config import T5Config
from model.decoding.score import score, token_scores
from model.decoding.search import beam_search, greedy
from model.decoding.steps import EOS
from model.initialize import initialize
from model.transformer import T5, Batch
from tests.model.decoding.plain import next_logits, plain_beam, plain_greedy

SHAPE = {"d_model": 16, "d_ff": 24, "d_kv": 4, "heads": 3, "encoder_layers": 2, "decoder_layers": 2}
LM = SHAPE | {"encoder_layers": 0}
CONFIGS = {
    "encoder_decoder": SHAPE,
    "v1.1": SHAPE | {"feed_forward": "gated-gelu", "tied": False},
    "shared": SHAPE | {"architecture": "shared"},
    "language_model": LM | {"architecture": "language_model"},
    "prefix_lm": LM | {"architecture": "prefix_lm"},
}
INPUTS = [[5, 3, 8, 2, 1], [4, 1], [7, 7, 2, 9, 4, 6, 1]]


def build(kind: str, words: int = 11, seed: int = 0) -> T5:
    model = T5(T5Config(vocab_rows=words, **CONFIGS[kind]))
    initialize(model, seed)
    # A fresh model mostly repeats the last token; sharper attention makes its answers vary and end.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter *= 6 if name.endswith((".q.weight", ".o.weight", ".wo.weight", "bias.weight")) else 1
    return model


@pytest.fixture(params=CONFIGS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def padded(rows: list[list[int]]) -> Tensor:
    length = max(map(len, rows))
    return torch.tensor([row + [0] * (length - len(row)) for row in rows])


def cut(ids: Tensor) -> list[int]:
    answer = ids.tolist()
    return answer[: answer.index(EOS) + 1] if EOS in answer else answer


def test_greedy_equals_whole_forward_passes(kind: str) -> None:
    model = build(kind)
    got = greedy(model, padded(INPUTS), max_length=9)
    assert len(got.unique()) > 1
    for ids, inputs in zip(got, INPUTS, strict=True):
        expected = plain_greedy([model], inputs, 9)
        assert cut(ids)[: len(expected)] == expected
        assert not ids[len(expected) :].any()


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_beam_search_equals_the_plain_one(kind: str, alpha: float) -> None:
    model = build(kind)
    beams = beam_search(model, padded(INPUTS), max_length=8, width=3, alpha=alpha)
    for ids, scores, inputs in zip(beams.ids, beams.scores, INPUTS, strict=True):
        expected = plain_beam([model], inputs, 8, 3, alpha)
        for hypothesis, value, (target, answer) in zip(ids, scores.tolist(), expected, strict=False):
            assert value == pytest.approx(target, abs=1e-5)
            assert hypothesis.tolist()[: len(answer)] == answer
        assert (scores[len(expected) :] == -math.inf).all()


def test_a_wide_beam_finds_the_best_of_all_answers() -> None:
    model = build("encoder_decoder", words=4)
    inputs, length, alpha = [3, 2, 1], 4, 0.6
    best = (-math.inf, [])
    for size in range(1, length + 1):
        for body in itertools.product([0, 2, 3], repeat=size - 1):
            answer = [*body, EOS]
            batch = Batch(torch.tensor([inputs]), torch.tensor([answer]), loss_mask=torch.ones(1, size, dtype=bool))
            best = max(best, (score(model, batch).item() / ((5 + size) / 6) ** alpha, answer))
    beams = beam_search(model, torch.tensor([inputs]), max_length=length, width=60, alpha=alpha)
    assert beams.scores[0, 0].item() == pytest.approx(best[0], abs=1e-5)
    assert cut(beams.ids[0, 0]) == best[1]


@pytest.mark.parametrize("width", [1, 4])
def test_rows_do_not_depend_on_their_neighbors(kind: str, width: int) -> None:
    model = build(kind)
    together = beam_search(model, padded(INPUTS), max_length=7, width=width)
    for row, inputs in enumerate(INPUTS):
        alone = beam_search(model, torch.tensor([inputs]), max_length=7, width=width)
        length = alone.ids.shape[2]
        torch.testing.assert_close(alone.scores[0], together.scores[row], rtol=1e-4, atol=1e-4)
        assert torch.equal(alone.ids[0], together.ids[row, :, :length])
        assert not together.ids[row, :, length:].any()


def test_an_ensemble_averages_logits() -> None:
    models = [build("encoder_decoder", seed=seed) for seed in range(4)]
    inputs = padded(INPUTS)
    answers = greedy(models, inputs, max_length=9)
    for ids, row in zip(answers, INPUTS, strict=True):
        expected = plain_greedy(models, row, 9)
        assert ids[: len(expected)].tolist() == expected
    alone = [greedy(model, inputs, max_length=9).tolist() for model in models]
    assert answers.tolist() not in alone
    best = beam_search(models, inputs, max_length=6, width=2)
    value, answer = plain_beam(models, INPUTS[1], 6, 2, 0.6)[0]
    assert best.scores[1, 0].item() == pytest.approx(value, abs=1e-5)
    assert best.ids[1, 0].tolist()[: len(answer)] == answer


def test_scores_are_the_log_likelihoods_of_the_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [build("v1.1", seed=seed) for seed in range(2)]
    monkeypatch.setattr("model.decoding.score._LOGITS_AT_ONCE", 33)
    answers = [[4, 5, 1], [2, 1], [9, 8, 7, 1]]
    batch = Batch(padded(INPUTS), padded(answers), input_segments=(padded(INPUTS) != 0).long())
    got = token_scores(models, batch)
    for row, (inputs, answer) in enumerate(zip(INPUTS, answers, strict=True)):
        for place, token in enumerate(answer):
            logits = next_logits(models, inputs, answer[:place])
            assert got[row, place].item() == pytest.approx(logits.log_softmax(-1)[token].item(), abs=1e-5)
        assert not got[row, len(answer) :].any()
    torch.testing.assert_close(score(models, batch), got.sum(1))


def test_ranks_that_share_a_model_stop_together() -> None:
    """A rank whose rows are done goes on until the others are, and gives the same answer."""
    model = build("encoder_decoder")
    asked = []

    def agree(done: bool) -> bool:
        asked.append(done)
        return False

    short = greedy(model, padded(INPUTS), max_length=30)
    long = greedy(model, padded(INPUTS), max_length=30, agree=agree)
    assert len(asked) == 30
    assert torch.equal(long[:, : short.shape[1]], short)
    assert not long[:, short.shape[1] :].any()
    once = beam_search(model, padded(INPUTS), max_length=20)
    again = beam_search(model, padded(INPUTS), max_length=20, agree=agree)
    assert torch.equal(once.ids, again.ids)
    assert torch.equal(once.scores, again.scores)


def test_impossible_requests_are_refused() -> None:
    model = build("encoder_decoder")
    inputs = padded(INPUTS)
    with pytest.raises(UserError, match="decode length is 0"):
        greedy(model, inputs, max_length=0)
    with pytest.raises(UserError, match="beam width is 0"):
        beam_search(model, inputs, max_length=3, width=0)
    with pytest.raises(UserError, match="at least one model"):
        greedy([], inputs, max_length=3)
    with pytest.raises(UserError, match="differ in kind or vocabulary rows"):
        greedy([model, build("encoder_decoder", words=12)], inputs, max_length=3)
