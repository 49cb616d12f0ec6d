"""The chunked loss against plain float64, whole and with the vocabulary split."""

import math
import threading

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model import loss
from model.loss import cross_entropy

ROWS, WIDTH, WORDS = 23, 6, 17


def case(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, ROWS, WIDTH, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(WORDS, WIDTH, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    targets = torch.randint(0, WORDS, (1, ROWS), generator=generator)
    return hidden, weight, targets, targets != 0


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, counted: Tensor, z_loss: float) -> tuple[Tensor, ...]:
    logits = (hidden @ weight.T)[counted]
    log_z = logits.logsumexp(-1)
    z = z_loss * (log_z**2).sum()
    loss = F.cross_entropy(logits, targets[counted], reduction="sum") + z
    return loss, z, counted.sum(), (logits.argmax(-1) == targets[counted]).sum()


@pytest.mark.parametrize("chunk", [1, 7, ROWS, None])
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_sums_and_gradients_equal_the_plain_ones(chunk: int | None, z_loss: float) -> None:
    ours, theirs = case(), case()
    sums = cross_entropy(*ours, z_loss=z_loss, chunk=chunk)
    (sums.loss / 5).backward()
    total, z, tokens, correct = plain(*theirs, z_loss)
    (total / 5).backward()
    torch.testing.assert_close(sums.loss, total)
    torch.testing.assert_close(sums.z_loss, z.detach())
    assert (sums.tokens.item(), sums.correct.item()) == (tokens.item(), correct.item())
    torch.testing.assert_close(sums.cross_entropy, (total - z).detach())
    for got, expected in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-12, atol=1e-12)


def test_bfloat16_is_summed_in_float32() -> None:
    hidden, weight, targets, counted = case(torch.bfloat16)
    sums = cross_entropy(hidden, weight, targets, counted, chunk=4)
    assert sums.loss.dtype == torch.float32
    expected = plain(hidden.double(), weight.double(), targets, counted, 1e-4)[0]
    assert sums.loss.item() == pytest.approx(expected.item(), rel=1e-2)
    sums.loss.backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.bfloat16


def test_no_gradient_is_formed_where_none_is_wanted() -> None:
    hidden, weight, targets, counted = case()
    cross_entropy(hidden, weight.detach(), targets, counted).loss.backward()
    assert hidden.grad is not None
    with torch.no_grad():
        assert not cross_entropy(hidden, weight, targets, counted).loss.requires_grad


def test_logits_of_one_chunk_exist_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets, counted = case()
    monkeypatch.setattr("model.loss.CHUNK_BYTES", 4 * WORDS * 3)
    seen: list[int] = []
    whole = loss._chunk_loss

    def record(hidden: Tensor, *rest):
        seen.append(len(hidden))
        return whole(hidden, *rest)

    monkeypatch.setattr(loss, "_chunk_loss", record)
    cross_entropy(hidden, weight, targets, counted)
    assert max(seen) == 3
    assert sum(seen) == ROWS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_bfloat16_logits_are_float32_on_a_gpu() -> None:
    on_gpu = [x.detach().cuda() for x in case(torch.bfloat16)]
    exact = plain(on_gpu[0].double(), on_gpu[1].double(), *on_gpu[2:], 1e-4)[0]
    assert cross_entropy(*on_gpu).loss.item() == pytest.approx(exact.item(), rel=1e-5)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary() -> None:
    sums = cross_entropy(torch.zeros(4, 2), torch.ones(32128, 2), torch.arange(4) + 1, torch.ones(4, dtype=torch.bool))
    log_z = math.log(32128)
    assert sums.loss.item() == pytest.approx(4 * (log_z + 1e-4 * log_z**2), rel=1e-6)


class SharedVocabulary:
    """Rows of the output matrix held by threads, which meet at each reduction."""

    def __init__(self, rank: int, first_row: int, board: list, barrier: threading.Barrier) -> None:
        self.first_row, self._rank, self._board, self._barrier = first_row, rank, board, barrier

    def _meet(self, x: Tensor) -> Tensor:
        self._board[self._rank] = x.clone()
        self._barrier.wait()
        everyone = torch.stack(list(self._board))
        self._barrier.wait()
        return everyone

    def all_maximum(self, x: Tensor) -> Tensor:
        return self._meet(x).amax(0)

    def all_sum(self, x: Tensor) -> Tensor:
        return self._meet(x).sum(0)


def test_a_split_vocabulary_gives_the_same_numbers() -> None:
    hidden, weight, targets, counted = case()
    whole = cross_entropy(hidden, weight, targets, counted, z_loss=1e-2, chunk=7)
    whole.loss.backward()
    borders, board, barrier = [0, 5, 12, WORDS], [None] * 3, threading.Barrier(3)
    results: list = [None] * 3

    def work(rank: int) -> None:
        mine = hidden.detach().clone().requires_grad_()
        rows = weight.detach()[borders[rank] : borders[rank + 1]].clone().requires_grad_()
        vocabulary = SharedVocabulary(rank, borders[rank], board, barrier)
        sums = cross_entropy(mine, rows, targets, counted, z_loss=1e-2, chunk=7, vocabulary=vocabulary)
        sums.loss.backward()
        results[rank] = (sums, mine.grad, rows.grad)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sums, d_hidden, _ in results:
        for field in ("loss", "z_loss", "tokens", "correct"):
            torch.testing.assert_close(getattr(sums, field), getattr(whole, field))
        torch.testing.assert_close(d_hidden, hidden.grad)
    torch.testing.assert_close(torch.cat([d_weight for *_, d_weight in results]), weight.grad)
