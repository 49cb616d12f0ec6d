"""`python -m tests.soak --kills N --seed S`: a run whose processes are killed again and again ends with the same bits.

First a run to which nothing happens, then one of the same configuration in which processes are killed with SIGKILL at
steps and of kinds that the seed decides: driver, scheduler, reader, worker, and with `--cluster` (several Ray nodes
and an S3 server, each a process of its own, the run from S3 to S3) also a node, the head and the S3 server. What does
not come back by itself is started again by the same command. Final parameters, the loss of every step and exit codes
are compared. Exit code 0: no difference; 1: some; they are printed. With `--folder` a soak that was ended goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from data.storage import LocalStorage
from orchestrator.ledger import read_events, summarize
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
    """One kill: what, which step the metrics had reached, when (seconds of soaking), and the seconds until the run
    was past it."""

    part: str
    step: int
    at: float
    recovered: float


@dataclass
class Record:
    """What a soak has done so far, kept as `soak.json` so that one that was ended goes on."""

    asked: dict[str, Any]
    kills: list[Kill] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def load(cls, path: Path, asked: dict[str, Any]) -> Record:
        """The record at `path`, or a new one. Raises `ValueError` where it is of another soak."""
        if not path.exists():
            return cls(asked)
        values = json.loads(path.read_text())
        if values["asked"] != asked:
            raise ValueError(f"{path} is of a soak with {values['asked']}, not {asked}; take another --folder")
        return cls(asked, [Kill(**kill) for kill in values["kills"]], values["codes"], values["seconds"])

    def save(self, path: Path) -> None:
        """Write it whole."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self)))
        part.replace(path)


def plan(kills: int, seed: int, parts: Sequence[str]) -> list[tuple[str, int]]:
    """What dies and at which step: rounds of all parts, each round in an order of its own, at steps about GAP apart."""
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


def disturbed(
    place: Place, steps: int, planned: Sequence[tuple[str, int]], seed: int, record: Record, note: Callable[[], None]
) -> None:
    """Run to the end under the planned kills that `record` does not have yet; it takes them, and the exit codes of
    all starts in order. `note` is called after each kill that the run has survived."""
    began = time.monotonic() - record.seconds
    metrics = place.folder("killed") / "metrics.jsonl"
    codes = record.codes
    place.start("killed", steps)
    if 0 < len(record.kills) < len(planned):
        # A soak that goes on: its next kill must meet a run at work again.
        _reach(place, metrics, last_step(metrics) + 2, steps, codes)
    for number, (part, step) in list(enumerate(planned))[len(record.kills) :]:
        chance = random.Random(f"{seed}/victims/{number}")
        _reach(place, metrics, step, steps, codes)
        killed, reached = time.monotonic(), last_step(metrics)
        if not place.kill(part, chance):
            # A part that is being brought back at this very moment: the kill waits for it.
            _wait_and_kill(place, part, chance, codes, steps)
            killed, reached = time.monotonic(), last_step(metrics)
        # One step may have been on its way to the metrics.
        _reach(place, metrics, reached + 2, steps, codes)
        record.kills.append(Kill(part, reached, killed - began, time.monotonic() - killed))
        record.seconds = time.monotonic() - began
        note()
    while (code := _end(place)) != 0:
        codes.append(code)
        _again(place, steps, codes)
    record.seconds = time.monotonic() - began


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


def soak(place: Place, kills: int, seed: int, folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Both runs and what differs; `folder` keeps the record from which a soak that was ended goes on."""
    path = folder / "soak.json"
    record = Record.load(path, {"kills": kills, "seed": seed, "parts": list(place.parts)})
    planned = plan(kills, seed, place.parts)
    steps = max((step for _, step in planned), default=0) + 2 * GAP
    began = time.monotonic()
    undisturbed(place, steps)
    record.seconds += time.monotonic() - began
    tell(f"undisturbed run of {steps} steps over after {record.seconds:.0f} s")

    def note() -> None:
        record.save(path)
        tell(in_words(record.kills[-1], len(record.kills), kills))

    disturbed(place, steps, planned, seed, record, note)
    told = differences(place.folder("undisturbed"), place.folder("killed"))
    # The driver's end, and the head's where it has one, end a start; everything else comes back by itself.
    own = sum(kill.part in ("driver", "head") for kill in record.kills)
    early = len(record.codes)
    if early > own:
        told.append(f"{early} starts ended early, with codes {record.codes}, but only {own} kills may do that")
    return result(record, steps, told, summarize(read_events(LocalStorage(place.folder("killed")))).redone_steps)


def in_words(kill: Kill, number: int, kills: int) -> str:
    """One line on a kill that the run has survived."""
    return (
        f"{kill.at:7.1f} s  kill {number}/{kills}: {kill.part} at step {kill.step}; the run was past it "
        f"{kill.recovered:.1f} s later"
    )


def result(record: Record, steps: int, told: list[str], lost_steps: int) -> dict[str, Any]:
    """What a soak found, as plain data; `lost_steps` were taken again after kills."""
    return {
        **record.asked,
        "steps": steps,
        "kills_by_kind": dict(Counter(kill.part for kill in record.kills)),
        "recovered_seconds": {
            part: statistics.median(kill.recovered for kill in record.kills if kill.part == part)
            for part in dict.fromkeys(kill.part for kill in record.kills)
        },
        "lost_steps": lost_steps,
        "exit_codes": [*record.codes, 0],
        "differences": told,
        "seconds": record.seconds,
        "killed": [asdict(kill) for kill in record.kills],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Soak and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Kill parts of a run again and again.")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cluster", action="store_true", help="several nodes and an S3 server on this machine")
    parser.add_argument("--folder", type=Path, help="keep everything here, and go on from what is there; default: a "
                        "temporary folder")  # fmt: skip
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    # Ended by a signal it ends what it started; the same command with the same folder goes on.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        place: Place = (ClusterPlace if arguments.cluster else LocalPlace)(folder, arguments.kills)
        try:
            found = soak(
                place, arguments.kills, arguments.seed, folder, lambda text: print(text, file=sys.stderr, flush=True)
            )
        finally:
            place.close()
    if arguments.json:
        print(json.dumps(found))
    else:
        kinds = ", ".join(f"{count} {part}" for part, count in found["kills_by_kind"].items())
        print(f"killed: {kinds}; {found['lost_steps']} steps taken again; {found['seconds']:.0f} s")
        print(f"exit codes: {found['exit_codes']}")
        print("\n".join(found["differences"]) or "no difference: parameters, losses of all steps and exit codes agree")
    return int(bool(found["differences"]))


if __name__ == "__main__":
    sys.exit(main())
