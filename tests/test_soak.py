"""The soak's plan and comparison; the soak itself is a command."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

from tests.soak import GAP, differences, disturbed, plan


def test_the_plan_is_the_seeds_and_every_part_dies() -> None:
    parts = ("driver", "scheduler", "reader", "worker")
    planned = plan(9, 3, parts)
    assert planned == plan(9, 3, parts)
    assert planned != plan(9, 4, parts)
    assert {part for part, _ in planned} == set(parts)
    assert all(0 < later - earlier < 2 * GAP for (_, earlier), (_, later) in pairwise(planned))


def write(folder: Path, digest: str, losses: list[float]) -> Path:
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps({"parameters_sha256": digest}))
    lines = [json.dumps({"step": step, "loss": loss}) for step, loss in enumerate(losses, 1)]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    return folder


def test_differences_name_parameters_steps_and_losses(tmp_path: Path) -> None:
    whole = write(tmp_path / "a", "x" * 64, [3.0, 2.0, 1.0])
    assert differences(whole, write(tmp_path / "same", "x" * 64, [3.0, 2.0, 1.0])) == []
    told = differences(whole, write(tmp_path / "b", "y" * 64, [3.0, 2.5]))
    assert told == [
        f"parameters {'y' * 16}, not {'x' * 16}", "steps logged by one alone: [3]", "loss of step 2 is 2.5, not 2.0"
    ]


class Dying:
    """A place whose run makes a step at each look, dies with its driver and ends at its last step."""

    parts = ("driver", "worker")

    def __init__(self, folder: Path) -> None:
        self._folder, self._steps, self._step, self._dead = folder, 0, 0, True
        self.killed: list[str] = []

    def start(self, run: str, steps: int) -> None:
        self._steps, self._dead = steps, False
        self.folder(run).mkdir(exist_ok=True)

    def code(self) -> int | None:
        if self._dead:
            return -9
        self._step += 1
        (self.folder("killed") / "metrics.jsonl").write_text(json.dumps({"step": self._step}))
        return 0 if self._step >= self._steps else None

    def kill(self, part: str, chance: random.Random) -> bool:
        self.killed.append(part)
        self._dead = part == "driver"
        return True

    def folder(self, run: str) -> Path:
        return self._folder / run

    def output(self) -> str:
        return ""

    def close(self) -> None:
        pass


def test_what_dies_is_started_again_and_its_code_kept(tmp_path: Path) -> None:
    place = Dying(tmp_path)
    kills, codes = disturbed(place, 40, [("worker", 3), ("driver", 8), ("driver", 15)], seed=0)
    assert place.killed == ["worker", "driver", "driver"]
    assert codes == [-9, -9, 0]
    assert [kill.step >= step for kill, step in zip(kills, (3, 8, 15), strict=True)] == [True] * 3
