"""The peak memory of real training steps on a CPU, as growth of resident memory from before the model is built.

As a program it stands alone, so that its memory is its own: cases as JSON on standard input, bytes a line out.
"""

import ctypes
import gc
import json
import re
import sys
from pathlib import Path

import torch

from model.config import T5Config
from model.transformer import Batch
from orchestrator.optimizers.adafactor import Adafactor
from orchestrator.optimizers.adamw import AdamW
from orchestrator.optimizers.in_backward import UpdateInBackward
from orchestrator.parallel.layout import Layout, build_mesh
from orchestrator.parallel.loss import loss_sums
from orchestrator.parallel.parallelize import build_model

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1


def status(key):
    return 1024 * int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def growth(function, *args, **kwargs):
    """Bytes by which `function` raises resident memory at its peak."""
    # Large tensors then go back to the system at once, so that resident memory is what tensors take.
    library = ctypes.CDLL(None)
    library.mallopt(MMAP_THRESHOLD, 65536)
    library.mallopt(TRIM_THRESHOLD, 65536)
    gc.collect()
    # What is free but not given back would be used again unseen.
    library.malloc_trim(0)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    function(*args, **kwargs)
    return status("VmHWM") - before


def train(
    config, rows, inputs, targets, recompute="none", in_backward=False, optimizer="adafactor", segments=False,
    accumulate=1, tensor=1,
):  # fmt: skip
    """One step of a new model on this rank's rows."""
    layout = Layout(recompute=recompute, tensor=tensor)
    model = build_model(T5Config(**config), layout, build_mesh(layout, "cpu"), seed=0, device="cpu")
    rule = {"adafactor": Adafactor, "adamw": AdamW}[optimizer](model.parameters(), lr=0.01)
    if in_backward:
        UpdateInBackward(model, rule)
    ids = torch.randint(3, 100, (rows // accumulate, max(inputs, targets)))
    batch = Batch(ids[:, :inputs] if inputs else None, ids[:, :targets], row_keys=torch.arange(len(ids)))
    if segments:
        batch.input_segments, batch.target_segments = (torch.ones_like(x) for x in (batch.inputs, batch.targets))
    for _ in range(accumulate):
        (loss_sums(model, batch).loss / ids.numel()).backward()
    rule.step()


def main():
    torch.set_num_threads(1)
    tiny = {"d_model": 32, "d_ff": 64, "d_kv": 8, "heads": 2, "encoder_layers": 1, "decoder_layers": 1}
    # What a first step allocates for good (code, workspaces) is not the step's.
    train(tiny, 2, 300, 40)
    for case in json.load(sys.stdin):
        print(growth(train, **case), flush=True)


if __name__ == "__main__":
    main()
