"""What sharded ranks send and hold, against two real ranks: their collectives counted, their memory measured."""

import dataclasses
import functools
import os
from collections import Counter
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from model.config import T5Config
from model.transformer import Batch
from orchestrator.forecast.memory import peak
from orchestrator.forecast.scenario import Scenario
from orchestrator.forecast.traffic import traffic
from orchestrator.optimizers.adafactor import Adafactor
from orchestrator.parallel.layout import Layout, build_mesh
from orchestrator.parallel.loss import loss_sums
from orchestrator.parallel.parallelize import build_model
from tests.orchestrator.forecast.measured import growth, train
from tests.ranks import run_ranks

ROWS, INPUTS, TARGETS = 4, 48, 32
CONFIG = T5Config(d_model=256, d_ff=512, d_kv=32, heads=8, encoder_layers=2, decoder_layers=2, vocab_rows=512)
LAYOUTS = {"sharded": (1, "none"), "tensor parallel": (2, "none"), "recomputed": (2, "block")}
LARGE = dataclasses.replace(CONFIG, d_model=512, d_ff=2048, vocab_rows=2048)
MEASURED = os.access("/proc/self/clear_refs", os.W_OK)


def sent_in_a_step(rank: int) -> dict[str, dict[str, float]]:
    """Bytes that this rank sends in one step of each layout on two ranks, by kind of collective, and its peak."""
    found = {name: _sent(tensor, recompute) for name, (tensor, recompute) in LAYOUTS.items()}
    if MEASURED:
        for tensor in (1, 2):
            found[f"peak {tensor}"] = {"bytes": growth(train, LARGE.to_dict(), 2, INPUTS, TARGETS, tensor=tensor)}
    return found


def _sent(tensor: int, recompute: str) -> dict[str, float]:
    layout = Layout(tensor=tensor, recompute=recompute)  # type: ignore[arg-type]
    model = build_model(CONFIG, layout, build_mesh(layout, "cpu"), seed=0, device="cpu")
    optimizer = Adafactor(model.parameters(), lr=0.01)
    rows = ROWS if tensor == 2 else ROWS // 2
    ids = torch.randint(3, 100, (rows, INPUTS))
    counts: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        _count(patch, counts, "all_gather_single", lambda out, *_: out.nbytes / 2)
        _count(patch, counts, "reduce_scatter_single", lambda _, whole, *__: whole.nbytes / 2)
        _count(patch, counts, "all_reduce", lambda x, *_: float(x.nbytes))
        (loss_sums(model, Batch(ids, ids[:, :TARGETS])).loss / ids.numel()).backward()
        counts["activations"] = counts.pop("all_reduce", 0)
        optimizer.step()
    return dict(counts)


def _count(patch: pytest.MonkeyPatch, counts: Counter[str], name: str, sent: Any) -> None:
    real = getattr(dist, name)

    def counting(*args: Any, **kwargs: Any) -> Any:
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        counts[name] += sent(*tensors)
        return real(*args, **kwargs)

    patch.setattr(dist, name, counting)
    patch.setattr(dist.distributed_c10d, name, counting)


@functools.cache
def counted() -> dict[str, dict[str, float]]:
    return run_ranks(2, sent_in_a_step)[0]  # type: ignore[no-any-return]


def forecast(name: str) -> dict[str, int]:
    tensor, recompute = LAYOUTS[name]
    layout = Layout(tensor=tensor, recompute=recompute)  # type: ignore[arg-type]
    return traffic(
        Scenario(
            model=CONFIG, layout=layout, world=2, rows=ROWS, lanes=2, accumulate=1, input_length=INPUTS,
            target_length=TARGETS,
        )
    )  # fmt: skip


def test_sharded_parameters() -> None:
    real, found = counted()["sharded"], forecast("sharded")
    assert found["parameter_gathers"] == pytest.approx(real["all_gather_single"], rel=0.02)
    assert found["gradient_reduce_scatters"] == pytest.approx(real["reduce_scatter_single"], rel=0.02)
    assert found["tensor_parallel_all_reduces"] == 0


@pytest.mark.parametrize("name", LAYOUTS)
def test_optimizer(name: str) -> None:
    assert forecast(name)["optimizer_all_reduces"] == pytest.approx(counted()[name]["all_reduce"], rel=0.05)


@pytest.mark.parametrize("name", ["tensor parallel", "recomputed"])
def test_tensor_parallel_activations(name: str) -> None:
    real = counted()[name]["activations"]
    assert forecast(name)["tensor_parallel_all_reduces"] == pytest.approx(real, rel=0.02)


@pytest.mark.skipif(not MEASURED, reason="needs /proc/self/clear_refs, Linux's own, to measure a peak")
@pytest.mark.parametrize("tensor", [1, 2])
def test_memory(tensor: int) -> None:
    rows = 4 // tensor
    made = Scenario(
        model=LARGE, layout=Layout(tensor=tensor), world=2, rows=rows, lanes=rows, accumulate=1, input_length=INPUTS,
        target_length=TARGETS, device="cpu",
    )  # fmt: skip
    assert peak(made).total == pytest.approx(counted()[f"peak {tensor}"]["bytes"], rel=0.1)


def test_replicas_sum_shards_and_micro_batches_repeat() -> None:
    layout = Layout(replicas=2)
    made = Scenario(
        model=CONFIG, layout=layout, world=4, rows=8, lanes=8, accumulate=3, input_length=48, target_length=32
    )
    found = traffic(made)
    parameters = CONFIG.parameters()
    assert found["gradient_reduce_scatters"] == pytest.approx(3 * 4 * parameters / 2, rel=0.01)
    assert found["replica_all_reduces"] == pytest.approx(3 * 4 * parameters / 2, rel=0.01)
    assert found["total"] == sum(count for name, count in found.items() if name != "total")
