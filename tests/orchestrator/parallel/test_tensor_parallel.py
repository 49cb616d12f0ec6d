"""The parts of tensor parallelism by themselves: the table, the split loss, gathered logits."""

from fnmatch import fnmatchcase

import pytest
import torch
from fairscale.nn.model_parallel.cross_entropy import vocab_parallel_cross_entropy
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from model.loss import cross_entropy
from model.transformer import T5
from orchestrator.parallel.layout import Layout, build_mesh
from orchestrator.parallel.parallelize import build_model
from orchestrator.parallel.tensor_parallel import TABLE, SplitVocabulary, apply_tensor_parallel
from tests.orchestrator.parallel.cases import CASES, SEED, SMALL, batch
from tests.ranks import run_ranks

WORDS, WIDTH, POSITIONS = 32, 8, 10


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("dense")])
def test_every_large_matrix_is_cut(name: str) -> None:
    with torch.device("meta"):
        model = T5(CASES[name].config)
    for parameter, value in model.named_parameters():
        cuts = [cut for cut in TABLE if cut.axis is not None and fnmatchcase(parameter, cut.pattern + ".weight")]
        small = "norm" in parameter or ".adapter." in parameter
        assert len(cuts) == (0 if small else 1), parameter
        assert small or value.ndim == 2


def losses(rank: int) -> list[tuple[torch.Tensor, ...]]:
    """Loss, its parts and both gradients: over the split vocabulary, over the whole, and FairScale's."""
    mesh = init_device_mesh("cpu", (1, 2), mesh_dim_names=("dp", "tp"))["tp"]
    with torch.device("meta"):
        apply_tensor_parallel(T5(SMALL), mesh)
    torch.manual_seed(0)
    weight, hidden = torch.randn(WORDS, WIDTH), torch.randn(POSITIONS, WIDTH)
    targets, counted = torch.randint(0, WORDS, (POSITIONS,)), torch.arange(POSITIONS) != 3
    half = slice(rank * WORDS // 2, (rank + 1) * WORDS // 2)
    found = []
    for z_loss in (1e-2, 0.0):
        part = DTensor.from_local(weight[half].clone(), mesh, [Shard(0)], run_check=False)
        whole = weight.clone().requires_grad_()
        for w, vocabulary in ((part.to_local().requires_grad_(), SplitVocabulary(part)), (whole, None)):
            h = hidden.clone().requires_grad_()
            sums = cross_entropy(h, w, targets, counted, z_loss=z_loss, chunk=4, vocabulary=vocabulary)
            sums.loss.backward()
            assert h.grad is not None
            assert w.grad is not None
            gradient = w.grad if vocabulary else w.grad[half]
            found.append((sums.loss.detach(), sums.z_loss, sums.tokens, sums.correct, h.grad, gradient))
    logits = (hidden @ weight[half].T).requires_grad_()
    (vocab_parallel_cross_entropy(logits * 1.0, targets) * counted).sum().backward()
    assert logits.grad is not None
    h_grad = logits.grad @ weight[half]
    torch.distributed.all_reduce(h_grad)
    return [*found, (h_grad, logits.grad.T @ hidden)]


def test_the_loss_over_a_split_vocabulary() -> None:
    for split, whole, split_plain, whole_plain, fairscale in run_ranks(2, losses):
        for a, b in ((split, whole), (split_plain, whole_plain)):
            for x, y in zip(a, b, strict=True):
                torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)
        assert split[1] > 0
        for x, y in zip(fairscale, split_plain[-2:], strict=True):
            torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


def logits(rank: int, tensor: int) -> torch.Tensor:
    case, layout = CASES["v1.1-packed"], Layout(tensor=tensor)
    model = build_model(case.config, layout, build_mesh(layout, "cpu"), seed=SEED, device="cpu")
    with torch.no_grad():
        # After its forward pass the root keeps what it gathered, the output matrix among it, as the loss needs it.
        return model.project(model(batch(case, 1)))


@pytest.mark.parametrize("tensor", [1, 2])
def test_projected_logits_are_of_the_whole_vocabulary(tensor: int) -> None:
    wanted = logits(0, 1)
    for found in run_ranks(2, logits, tensor):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
