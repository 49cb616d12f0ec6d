"""`python -m benchmarks.train_step`: a whole training step of ours beside Hugging Face's T5.

One process, the same weights and token ids, full rows without masks (`--padded`: with), no dropout, no z-loss; forward,
backward and optimizer. Each implementation takes its own Adafactor with the same settings. Turns are interleaved step
by step, the median counts, and what compiling took is given apart. Useful operations come from one exact formula for
all (`orchestrator.flops`), and stand beside the rate of a large matrix product of the same device in the same run.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from benchmarks import common
from benchmarks.kernels import kernel_names, product_ceiling
from benchmarks.peer_model import peer
from model.config import T5Config, sized
from model.masks import padding_segments
from model.transformer import T5, Batch
from orchestrator.flops import train_flops
from orchestrator.optimizers.adafactor import Adafactor
from orchestrator.parallel.layout import Layout, build_mesh
from orchestrator.parallel.loss import loss_sums
from orchestrator.parallel.parallelize import build_model

RATE = 0.01
"""Learning rate, relative to each parameter's RMS."""
PEERS = ("eager", "sdpa", "sdpa_compile")
OURS = ("ours", "ours_compile")


@dataclass
class Contender:
    """Something that takes training steps on given ids, and the time it needed."""

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    """Mean cross-entropy of (B, S) inputs and (B, T) targets, with a gradient."""
    optimizer: torch.optim.Optimizer
    model: nn.Module
    first_seconds: float = 0.0
    """The first step, which compiles what is compiled."""
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def step(self, inputs: Tensor, targets: Tensor) -> float:
        """One step; its seconds by the clock, the device's work included."""
        synchronize(inputs.device)
        began = time.perf_counter()
        loss = self.loss(inputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        synchronize(inputs.device)
        spent = time.perf_counter() - began
        self.losses.append(float(loss.detach()))
        return spent


def synchronize(device: torch.device) -> None:
    """Wait for the device's work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ours(config: T5Config, device: torch.device, precision: str, *, compiled: bool, padded: bool) -> Contender:
    """Our model as a single worker trains it."""
    layout = Layout(compile=compiled, precision="bfloat16" if precision == "bf16" else "float32")
    model = build_model(config, layout, build_mesh(layout, device.type), seed=0, device=device)

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        segments = padding_segments(inputs) if padded else None
        sums = loss_sums(model, Batch(inputs, targets, input_segments=segments), z_loss=0.0)
        return sums.loss / sums.tokens

    return Contender(OURS[compiled], loss, Adafactor(list(model.parameters()), lr=RATE), model)


def theirs(
    config: T5Config, weights: T5, device: torch.device, precision: str, attention: str, *, padded: bool
) -> Contender:
    """Hugging Face's model with the same weights; fp32 weights and autocast where ours computes in bf16."""
    from transformers.optimization import Adafactor as TheirAdafactor

    model = peer(config, weights, attention.removesuffix("_compile")).to(device)
    run: Callable[..., Any] = torch.compile(model) if attention.endswith("_compile") else model

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        masked = {"attention_mask": (inputs != 0).long()} if padded else {}
        labels = targets.masked_fill(targets == 0, -100) if padded else targets
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            found: Tensor = run(input_ids=inputs, labels=labels, use_cache=False, **masked).loss
        return found

    optimizer = TheirAdafactor(
        list(model.parameters()), lr=RATE, scale_parameter=True, relative_step=False, warmup_init=False
    )
    return Contender(f"huggingface_{attention}", loss, optimizer, model)


def batches(
    config: T5Config, device: torch.device, rows: int, lengths: tuple[int, int], *, padded: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (inputs, targets) with something to learn: ids from a skewed distribution, the same for everyone.

    With `padded` each row ends in padding, from none of it to half of the row.
    """
    generator = torch.Generator().manual_seed(1)
    weights = 1.0 / torch.arange(1, config.vocab_rows - 2, dtype=torch.float64)
    while True:
        ids = torch.multinomial(weights, rows * sum(lengths), replacement=True, generator=generator) + 3
        inputs, targets = ids[: rows * lengths[0]], ids[rows * lengths[0] :]
        inputs, targets = inputs.view(rows, -1), targets.view(rows, -1)
        if padded:
            kept = 1 - torch.rand(rows, 1, generator=generator) / 2
            inputs, targets = (ids * (torch.arange(ids.shape[1]) < kept * ids.shape[1]) for ids in (inputs, targets))
        yield inputs.to(device), targets.to(device)


def measure(
    config: T5Config, device: torch.device, precision: str, rows: int, lengths: tuple[int, int], steps: int,
    only: Sequence[str], *, padded: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Medians of `steps` steps of every contender in turns, ratios, losses, and kernels on CUDA."""
    whole = build_model(config, Layout(), None, seed=0, device="cpu")
    contenders = [
        ours(config, device, precision, compiled=name == "ours_compile", padded=padded) for name in only if name in OURS
    ]
    contenders += [theirs(config, whole, device, precision, name, padded=padded) for name in only if name in PEERS]
    del whole
    feed = batches(config, device, rows, lengths, padded=padded)
    inputs, targets = next(feed)
    for contender in contenders:
        contender.first_seconds = contender.step(inputs, targets)
    gc.collect()
    gc.freeze()
    for number in range(2, steps + 4):
        inputs, targets = next(feed)
        for contender in contenders if number % 2 else reversed(contenders):
            spent = contender.step(inputs, targets)
            if number > 3:
                contender.seconds.append(spent)
    gc.unfreeze()
    flops = train_flops(config, rows, *lengths)
    found: dict[str, Any] = {}
    for contender in contenders:
        seconds = statistics.median(contender.seconds)
        found[contender.name] = {
            "step_seconds": seconds,
            "flops_per_second": flops / seconds,
            "rows_per_second": rows / seconds,
            "first_step_seconds": contender.first_seconds,
            "losses": contender.losses,
        }
        if device.type == "cuda":
            found[contender.name]["kernels"] = kernel_names(partial(contender.step, inputs, targets))
    return {"contenders": found, "flops_per_step": flops, **_agreement(found), **_ratio(found)}


def _agreement(found: dict[str, Any]) -> dict[str, float]:
    """Largest relative differences of the losses: at step 1, and over the curves."""
    curves = [one["losses"] for one in found.values()]
    spread = [(max(losses) - min(losses)) / min(losses) for losses in zip(*curves, strict=True)]
    return {"first_loss_spread": spread[0], "curve_spread": max(spread)}


def _ratio(found: dict[str, Any]) -> dict[str, float | None]:
    """The fastest of theirs over the fastest of ours, in time."""
    sides = [[one["step_seconds"] for name, one in found.items() if (name in OURS) == mine] for mine in (True, False)]
    return {"speedup_over_best_peer": min(sides[1]) / min(sides[0]) if all(sides) else None}


def table(result: dict[str, Any]) -> str:
    """A table a size."""
    parts = [f"{result['device']}, {result['precision']}; matrix product: {result['ceiling_flops'] / 1e12:.3f} TFLOP/s"]
    for name, size in result["sizes"].items():
        rows = [
            (
                who, f"{one['step_seconds'] * 1e3:.1f} ms", f"{one['flops_per_second'] / 1e12:.3f}",
                f"{one['flops_per_second'] / result['ceiling_flops']:.1%}", f"{one['first_step_seconds']:.1f} s",
                f"{one['losses'][0]:.5f}", f"{one['losses'][-1]:.5f}",
            )
            for who, one in size["contenders"].items()
        ]  # fmt: skip
        head = (name, "step", "TFLOP/s", "of the product", "first step", "loss at 1", f"at {len(one_curve(size))}")
        speedup = size["speedup_over_best_peer"]
        parts.append(common.markdown(head, rows))
        parts.append(
            f"{'' if speedup is None else f'{speedup:.2f} times the best peer; '}losses differ by "
            f"{size['first_loss_spread']:.1e} at step 1, by {size['curve_spread']:.1e} at most"
        )
    return "\n\n".join(parts)


def one_curve(size: dict[str, Any]) -> list[float]:
    """The losses of the first contender."""
    curve: list[float] = next(iter(size["contenders"].values()))["losses"]
    return curve


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 where the losses at step 1 differ by more than 1e-3 (2e-2 in bf16)."""
    made = common.parser("train_step", "A whole training step, ours beside Hugging Face's T5.")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--sizes", nargs="+", default=["tiny", "v1.1-small"], help="names as in model.config")
    made.add_argument("--rows", type=int, help="default: 128 on CUDA, 2 on CPU")
    made.add_argument("--inputs", type=int, default=512)
    made.add_argument("--targets", type=int, default=114)
    made.add_argument("--steps", type=int, default=50)
    made.add_argument("--padded", action="store_true", help="rows that end in padding, which needs masks")
    made.add_argument("--only", nargs="+", choices=(*OURS, *PEERS), default=[*OURS, *PEERS])
    arguments = made.parse_args(argv)
    device = torch.device(arguments.device)
    cuda = device.type == "cuda"
    precision = "bf16" if cuda else "fp32"
    rows = arguments.rows or (128 if cuda else 2)
    where = common.machine()
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if cuda else where["processor"],
        "precision": precision,
        "threads": torch.get_num_threads(),
        "rows": rows,
        "lengths": [arguments.inputs, arguments.targets],
        "padded": arguments.padded,
        "ceiling_flops": product_ceiling(device),
        "sizes": {},
        "machine": where,
    }
    with tempfile.TemporaryDirectory() as folder:
        if cuda:
            os.environ.setdefault("LOCAL_RANK", "0")
            dist.init_process_group("cpu:gloo,cuda:nccl", init_method=f"file://{folder}/store", rank=0, world_size=1)
        for name in arguments.sizes:
            config = sized(name, dropout=0.0)
            lengths = (arguments.inputs, arguments.targets)
            result["sizes"][name] = measure(
                config, device, precision, rows, lengths, arguments.steps, arguments.only, padded=arguments.padded
            )
            torch._dynamo.reset()
        if cuda:
            dist.destroy_process_group()
    common.report("train_step", result, table(result), arguments)
    limit = 2e-2 if precision == "bf16" else 1e-3
    return int(any(size["first_loss_spread"] > limit for size in result["sizes"].values()))


if __name__ == "__main__":
    sys.exit(main())
