"""`python -m benchmarks.checkpoint`: what a checkpoint costs a training step, and save and load beside the plain disk.

A real model trains on one thread. Some steps run undisturbed; then a checkpoint begins and steps go on until it is
committed. What those steps took beyond the undisturbed median, and the time in which training stood still, is the
checkpoint's cost; at one a minute its share is that over 60 seconds. The disk's own rate is that of plain files of the
same sizes, written with fsync and read back, in turns with ours.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import common, recovery
from data.storage import open_storage
from model.config import T5Config, sized
from model.transformer import Batch
from orchestrator.checkpoint import AsyncSaver, Chunk, Manifest, load
from orchestrator.checkpoint.catalog import read_manifest, scan
from orchestrator.optimizers.adafactor import Adafactor
from orchestrator.parallel.layout import Layout
from orchestrator.parallel.loss import loss_sums
from orchestrator.parallel.parallelize import build_model, state_tensors
from orchestrator.parallel.shards import is_owner, local_chunk

CONFIGS: dict[str, T5Config] = {"20 MB": sized("tiny"), "250 MB": sized("small")}
PERIOD = 60.0
"""Seconds between checkpoints for which the share is given."""


class Training:
    """A model, its optimizer and one batch, in this process."""

    def __init__(self, config: T5Config, rows: int, length: int) -> None:
        self.model = build_model(config, Layout(), None, seed=0, device="cpu")
        self.optimizer = Adafactor(list(self.model.parameters()), lr=1e-3)
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(3, config.vocab_rows, (2, rows, length), generator=generator)
        self._batch = Batch(ids[0], ids[1])

    def step(self) -> float:
        """One whole step; its seconds."""
        began = time.perf_counter()
        sums = loss_sums(self.model, self._batch)
        (sums.loss / sums.tokens).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - began

    def chunks(self) -> dict[str, Chunk]:
        """What a checkpoint of it holds."""
        tensors = state_tensors(self.model, self.optimizer)
        return {name: Chunk(*local_chunk(tensor), is_owner(tensor)) for name, tensor in tensors.items()}


def stall(training: Training, folder: Path, saves: int) -> dict[str, float]:
    """Seconds a checkpoint costs training: standing still, and slower steps while it is written; medians."""
    saver = AsyncSaver(open_storage(folder), rank=0, world=1, attempt="stall")
    for _ in range(3):
        training.step()
    still, slower, plain = [], [], []
    for number in range(saves):
        steps = [training.step() for _ in range(6)]
        usual = statistics.median(steps)
        still.append(saver.begin(number + 1, training.chunks(), {"step": number + 1}))
        during = []
        while saver.busy:
            during.append(training.step())
        if not saver.finish():
            raise RuntimeError("a checkpoint was not committed: " + saver.events()[-1].message)
        slower.append(sum(during) - usual * len(during))
        plain.append(usual)
    cost = statistics.median(one + other for one, other in zip(still, slower, strict=True))
    return {
        "step_seconds": statistics.median(plain),
        "still_seconds": statistics.median(still),
        "slower_seconds": statistics.median(slower),
        "worst_seconds": max(one + other for one, other in zip(still, slower, strict=True)),
        "share_at_one_a_minute": max(0.0, cost) / PERIOD,
    }


def rates(chunks: dict[str, Chunk], folder: Path, rounds: int) -> dict[str, float]:
    """Bytes a second of save, load, plain write and plain read; medians over rounds taken in turns."""
    found: dict[str, list[float]] = {"save": [], "load": [], "disk_write": [], "disk_read": []}
    size = 0
    for number in range(rounds):
        place = folder / f"round-{number}"
        storage = open_storage(place)
        saver = AsyncSaver(storage, rank=0, world=1, attempt="rates")
        if number == 0:
            # The first save allocates the host buffers that all later ones use again.
            saver.begin(1, chunks, {})
            saver.finish()
        began = time.perf_counter()
        saver.begin(2, chunks, {})
        saver.finish()
        saving = time.perf_counter() - began
        manifest = _newest(place)
        size = sum(file.size for file in manifest.files)
        common.forget(path for path in place.rglob("*") if path.is_file())
        began = time.perf_counter()
        load(storage, manifest, chunks)
        loading = time.perf_counter() - began
        (place / "plain").mkdir()
        written, read = common.plain_disk(place / "plain", {file.name: file.size for file in manifest.files})
        for name, seconds in zip(found, (saving, loading, written, read), strict=True):
            found[name].append(size / seconds)
        shutil.rmtree(place)
    medians = {f"{name}_bytes_per_second": statistics.median(values) for name, values in found.items()}
    return {
        "bytes": float(size),
        **medians,
        "save_over_disk": medians["save_bytes_per_second"] / medians["disk_write_bytes_per_second"],
        "load_over_disk": medians["load_bytes_per_second"] / medians["disk_read_bytes_per_second"],
    }


def _newest(place: Path) -> Manifest:
    storage = open_storage(place)
    return read_manifest(storage, scan(storage)[0])


def measure(config: T5Config, folder: Path, saves: int, rounds: int, rows: int, length: int) -> dict[str, float]:
    """Cost and rates for the state of one model."""
    training = Training(config, rows, length)
    return {**stall(training, folder / "stall", saves), **rates(training.chunks(), folder, rounds)}


def table(result: dict[str, Any]) -> str:
    """One row a size."""
    head = (
        "state", "step", "stands still", "slower steps", "share at one a minute", "save, MB/s", "disk write",
        "load, MB/s", "disk read",
    )  # fmt: skip
    rows = [
        (
            f"{m['bytes'] / 1e6:.0f} MB", f"{m['step_seconds']:.3f} s", f"{m['still_seconds'] * 1e3:.1f} ms",
            f"{m['slower_seconds'] * 1e3:.1f} ms", f"{m['share_at_one_a_minute']:.3%}",
            *(f"{m[f'{name}_bytes_per_second'] / 1e6:.0f}" for name in ("save", "disk_write", "load", "disk_read")),
        )
        for m in result["sizes"].values()
    ]  # fmt: skip
    text = common.markdown(head, rows) if rows else ""
    if result["recovery"] is not None:
        names = [name for name in result["recovery"] if name.endswith("_seconds")]
        seconds = [(name.removesuffix("_seconds"), f"{result['recovery'][name]:.2f} s") for name in names]
        text += ("\n\n" if text else "") + common.markdown(("after SIGKILL of the worker", "median"), seconds)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    made = common.parser("checkpoint", "What checkpoints cost, and save and load beside the plain disk.")
    made.add_argument("--sizes", nargs="*", choices=list(CONFIGS), default=list(CONFIGS))
    made.add_argument("--saves", type=int, default=7, help="checkpoints begun while training")
    made.add_argument("--rounds", type=int, default=5, help="rounds of save, load and the plain disk")
    made.add_argument("--rows", type=int, default=4)
    made.add_argument("--length", type=int, default=64)
    made.add_argument("--folder", type=Path, help="where to write; default: the system's temporary folder")
    made.add_argument("--ray", action="store_true", help="also kill the worker of a real run and time its recovery")
    made.add_argument("--kills", type=int, default=3, help="with --ray")
    arguments = made.parse_args(argv)
    torch.set_num_threads(1)
    where = common.machine()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        sizes = {
            name: measure(
                CONFIGS[name], Path(folder, name.split()[0]), arguments.saves, arguments.rounds, arguments.rows,
                arguments.length,
            )
            for name in arguments.sizes
        }  # fmt: skip
        recovered = recovery.measure(Path(folder, "run"), arguments.kills) if arguments.ray else None
    result = {"sizes": sizes, "recovery": recovered, "machine": where}
    common.report("checkpoint", result, table(result), arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
