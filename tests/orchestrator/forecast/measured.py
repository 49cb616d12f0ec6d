"""A program that measures the peak memory of real training steps: cases as JSON on standard input, bytes a line out.

It stands alone so that its memory is its own. Each case is measured from the memory before the model is built.
"""

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
from orchestrator.parallel.layout import Layout
from orchestrator.parallel.loss import loss_sums
from orchestrator.parallel.parallelize import build_model


def status(key):
    return 1024 * int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def train(config, recompute, in_backward, optimizer, rows, inputs, targets):
    model = build_model(T5Config(**config), Layout(recompute=recompute), None, seed=0, device="cpu")
    rule = {"adafactor": Adafactor, "adamw": AdamW}[optimizer](model.parameters(), lr=0.01)
    if in_backward:
        UpdateInBackward(model, rule)
    ids = torch.randint(3, 100, (rows, max(inputs, targets)))
    batch = Batch(ids[:, :inputs] if inputs else None, ids[:, :targets], row_keys=torch.arange(rows))
    sums = loss_sums(model, batch)
    (sums.loss / ids.numel()).backward()
    rule.step()


def main():
    torch.set_num_threads(1)
    tiny = {"d_model": 32, "d_ff": 64, "d_kv": 8, "heads": 2, "encoder_layers": 1, "decoder_layers": 1}
    # What a first step allocates for good (code, workspaces) is not the step's.
    train(tiny, "none", False, "adafactor", 2, 300, 40)
    for case in json.load(sys.stdin):
        gc.collect()
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        train(**case)
        print(status("VmHWM") - before, flush=True)


if __name__ == "__main__":
    main()
