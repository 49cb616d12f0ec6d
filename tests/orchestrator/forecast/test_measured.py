"""The forecast peak against the peak of real steps: on this CPU, and on a GPU where there is one."""

import functools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from model.config import T5Config
from model.transformer import Batch
from orchestrator.forecast.memory import peak
from orchestrator.forecast.scenario import Scenario
from orchestrator.optimizers.adafactor import Adafactor
from orchestrator.parallel.layout import Layout, Recompute, build_mesh
from orchestrator.parallel.loss import loss_sums
from orchestrator.parallel.parallelize import build_model
from tests.orchestrator.forecast import measured

TOLERANCE = 0.1

WIDE = {
    "d_model": 128, "d_ff": 1024, "d_kv": 32, "heads": 4, "encoder_layers": 2, "decoder_layers": 2, "vocab_rows": 1024,
}  # fmt: skip
HEAVY = WIDE | {"d_model": 512, "d_ff": 2048, "heads": 16, "vocab_rows": 512}
WORDS = WIDE | {"d_ff": 256, "vocab_rows": 16384, "feed_forward": "gated-gelu", "tied": False, "dropout": 0.0}


def case(config: dict[str, Any], rows: int, inputs: int, targets: int, **changes: Any) -> dict[str, Any]:
    return changes | {"config": config, "rows": rows, "inputs": inputs, "targets": targets}


CASES = {
    "activations": case(WIDE, 16, 300, 64),
    "feed-forwards recomputed": case(WIDE, 16, 300, 64, recompute="feed_forward"),
    "blocks recomputed": case(WIDE, 16, 300, 64, recompute="block"),
    "gradients": case(HEAVY, 4, 64, 64),
    "updated in backward": case(HEAVY, 4, 64, 64, in_backward=True),
    "accumulated": case(HEAVY, 8, 64, 64, accumulate=2),
    "state": case(HEAVY, 4, 64, 64, optimizer="adamw"),
    "logits": case(WORDS, 32, 64, 160),
    "packed": case(WIDE | {"d_ff": 256}, 12, 300, 64, segments=True),
    "language model": case(
        WIDE | {"encoder_layers": 0, "architecture": "language_model", "decoder_layers": 3}, 12, 0, 304
    ),
}


def forecast(
    config: dict[str, Any], rows: int, inputs: int, targets: int, recompute: Recompute = "none", **changes: Any
) -> int:
    plain = Scenario(
        model=T5Config(**config),
        layout=Layout(recompute=recompute),
        world=1,
        rows=rows,
        lanes=1,
        accumulate=1,
        input_length=inputs,
        target_length=targets,
        device="cpu",
    )
    return peak(replace(plain, **changes)).total


@functools.cache
def measurements() -> dict[str, int]:
    """Bytes by case; one process measures them all."""
    done = subprocess.run(
        [sys.executable, "-m", measured.__name__],
        input=json.dumps(list(CASES.values())), capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, map(int, done.stdout.split()), strict=True))


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs /proc/self/clear_refs, Linux's own")
@pytest.mark.parametrize("name", CASES)
def test_peak_on_a_cpu(name: str) -> None:
    assert forecast(**CASES[name]) == pytest.approx(measurements()[name], rel=TOLERANCE)


@pytest.mark.gpu
@pytest.mark.parametrize("recompute", ["none", "block"])
def test_peak_on_a_gpu(recompute: str, tmp_path: Path) -> None:
    config = T5Config(d_model=768, d_ff=3072, d_kv=64, heads=12, encoder_layers=4, decoder_layers=4)
    layout = Layout(recompute=recompute, precision="bfloat16")
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        before = torch.cuda.memory_allocated()
        model = build_model(config, layout, build_mesh(layout, "cuda"), seed=0, device="cuda")
        optimizer = Adafactor(model.parameters(), lr=0.01)
        ids = torch.randint(3, 100, (64, 512), device="cuda")
        for _ in range(2):
            torch.cuda.reset_peak_memory_stats()
            batch = Batch(ids, ids[:, :120], row_keys=torch.arange(64, device="cuda"))
            (loss_sums(model, batch).loss / ids.numel()).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        measured_peak = torch.cuda.max_memory_allocated() - before
    finally:
        dist.destroy_process_group()
    scenario = Scenario(
        model=config, layout=layout, world=1, rows=64, lanes=1, accumulate=1, input_length=512, target_length=120
    )
    assert peak(scenario).total == pytest.approx(measured_peak, rel=TOLERANCE)
