"""`python -m tests.soak --kills N --seed S`: a run whose processes are killed again and again ends with the same bits.

First a run to which nothing happens, then one of the same configuration in which processes are killed with SIGKILL at
steps and of kinds that the seed decides: driver, scheduler, reader, worker, and with `--cluster` (several Ray nodes
and an S3 server, each a process of its own, the run from S3 to S3) also a node, the head and the S3 server. What does
not come back by itself is started again by the same command. Final parameters, the loss of every step and exit codes
are compared. Exit code 0: no difference; 1: some; they are printed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.live import last_step
from tests.soak_places import ClusterPlace, LocalPlace

GAP = 8
"""Steps between kills."""
PATIENCE = 300.0
"""Seconds in which a step must be made, restarts included."""


class Place(Protocol):
    """Where runs run and die."""

    parts: tuple[str, ...]

    def start(self, run: str, steps: int) -> None:
        """Start the run, or start it again."""

    def code(self) -> int | None:
        """Exit code of the start in progress, None while it runs."""

    def kill(self, part: str, chance: random.Random) -> bool:
        """SIGKILL one process of the kind; False where there is none now. What is not the run's own comes back."""

    def folder(self, run: str) -> Path:
        """The run's folder, as files."""

    def output(self) -> str:
        """What the latest start printed."""

    def close(self) -> None:
        """End everything."""


@dataclass(frozen=True)
class Kill:
    """One kill: what, and which step the metrics had reached."""

    part: str
    step: int


def plan(kills: int, seed: int, parts: Sequence[str]) -> list[tuple[str, int]]:
    """What dies and at which step: every part in turn in an order the seed shuffles, at steps about GAP apart."""
    chance = random.Random(seed)
    order: list[str] = []
    while len(order) < kills:
        order += chance.sample(list(parts), len(parts))
    return [(part, 2 + GAP * number + chance.randrange(GAP)) for number, part in enumerate(order[:kills])]


def undisturbed(place: Place, steps: int) -> None:
    """Run to the end; raises where that fails."""
    place.start("undisturbed", steps)
    code = _end(place)
    if code != 0:
        raise RuntimeError(f"the undisturbed run ended with {code}; its output ends:\n{place.output()[-3000:]}")


def disturbed(place: Place, steps: int, planned: Sequence[tuple[str, int]], seed: int) -> tuple[list[Kill], list[int]]:
    """Run to the end under the planned kills; returns them, and the exit codes of all starts in order."""
    chance = random.Random(f"{seed}/victims")
    metrics = place.folder("killed") / "metrics.jsonl"
    kills: list[Kill] = []
    codes: list[int] = []
    place.start("killed", steps)
    for part, step in planned:
        _reach(place, metrics, step, steps, codes)
        if not place.kill(part, chance):
            # A part that is being brought back at this very moment: the kill waits for it.
            _wait_and_kill(place, part, chance, codes, steps)
        kills.append(Kill(part, last_step(metrics)))
    while (code := _end(place)) != 0:
        codes.append(code)
        _again(place, steps, codes)
    return kills, [*codes, 0]


def _reach(place: Place, metrics: Path, step: int, steps: int, codes: list[int]) -> None:
    """Until the metrics have `step`; a start that ended is started again."""
    limit = time.monotonic() + PATIENCE
    while last_step(metrics) < step:
        code = place.code()
        if code == 0:
            raise RuntimeError(f"the run was over before step {step}, at which a kill was planned")
        if code is not None:
            codes.append(code)
            _again(place, steps, codes)
        if time.monotonic() > limit:
            raise RuntimeError(f"step {step} was not reached in {PATIENCE:g} s:\n{place.output()[-3000:]}")
        time.sleep(0.05)


def _wait_and_kill(place: Place, part: str, chance: random.Random, codes: list[int], steps: int) -> None:
    limit = time.monotonic() + PATIENCE
    while not place.kill(part, chance):
        code = place.code()
        if code is not None:
            codes.append(code)
            _again(place, steps, codes)
        if time.monotonic() > limit:
            raise RuntimeError(f"no {part} came back to be killed:\n{place.output()[-3000:]}")
        time.sleep(0.1)


def _again(place: Place, steps: int, codes: Sequence[int]) -> None:
    if len(codes) > 2 * steps:
        raise RuntimeError(f"{len(codes)} starts are too many; the latest ends:\n{place.output()[-3000:]}")
    place.start("killed", steps)


def _end(place: Place) -> int:
    limit = time.monotonic() + 3 * PATIENCE
    while (code := place.code()) is None:
        if time.monotonic() > limit:
            raise RuntimeError(f"not over after {3 * PATIENCE:g} s:\n{place.output()[-3000:]}")
        time.sleep(0.1)
    return code


def differences(expected: Path, found: Path) -> list[str]:
    """What differs between the folders of two runs that are over, a sentence each."""
    one, other = (json.loads((folder / "summary.json").read_text()) for folder in (expected, found))
    told = []
    if one["parameters_sha256"] != other["parameters_sha256"]:
        told.append(f"parameters {other['parameters_sha256'][:16]}, not {one['parameters_sha256'][:16]}")
    losses, others = _losses(expected), _losses(found)
    if losses.keys() != others.keys():
        told.append(f"steps logged by one alone: {sorted(losses.keys() ^ others.keys())[:10]}")
    told += [
        f"loss of step {step} is {others[step]!r}, not {losses[step]!r}"
        for step in sorted(losses.keys() & others.keys())
        if losses[step] != others[step]
    ]
    return told


def _losses(folder: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines}


def soak(place: Place, kills: int, seed: int, tell: Any) -> dict[str, Any]:
    """Both runs and what differs."""
    began = time.monotonic()
    planned = plan(kills, seed, place.parts)
    steps = max((step for _, step in planned), default=0) + 2 * GAP
    undisturbed(place, steps)
    tell(f"undisturbed run of {steps} steps over after {time.monotonic() - began:.0f} s")
    done, codes = disturbed(place, steps, planned, seed)
    told = differences(place.folder("undisturbed"), place.folder("killed"))
    # The driver's end, and the head's where it has one, end a start; everything else comes back by itself.
    own = sum(kill.part in ("driver", "head") for kill in done)
    if len(codes) - 1 > own:
        told.append(f"{len(codes) - 1} starts ended early, with codes {codes[:-1]}, but only {own} kills may do that")
    return {
        "seed": seed, "steps": steps, "kills": [asdict(kill) for kill in done], "exit_codes": codes,
        "differences": told, "seconds": time.monotonic() - began,
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Soak and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Kill parts of a run again and again.")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cluster", action="store_true", help="several nodes and an S3 server on this machine")
    parser.add_argument("--folder", type=Path, help="keep everything here; default: a temporary folder")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        place: Place = (ClusterPlace if arguments.cluster else LocalPlace)(folder.resolve(), arguments.kills)
        try:
            result = soak(place, arguments.kills, arguments.seed, lambda text: print(text, file=sys.stderr, flush=True))
        finally:
            place.close()
    if arguments.json:
        print(json.dumps(result))
    else:
        for kill in result["kills"]:
            print(f"step {kill['step']}: killed {kill['part']}")
        print(f"exit codes: {result['exit_codes']}; {result['seconds']:.0f} s")
        print("\n".join(result["differences"]) or "no difference: parameters, losses of all steps and exit codes agree")
    return int(bool(result["differences"]))


if __name__ == "__main__":
    sys.exit(main())
