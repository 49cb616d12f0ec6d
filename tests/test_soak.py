"""The soak's plan and comparison; the soak itself is a command."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.soak import GAP, Kill, Record, differences, disturbed, in_words, plan, result
from tests.soak_places import TRIES, ClusterPlace


def test_the_plan_is_the_seeds_and_every_part_dies() -> None:
    parts = ("driver", "scheduler", "reader", "worker")
    planned = plan(9, 3, parts)
    assert planned == plan(9, 3, parts)
    assert planned != plan(9, 4, parts)
    for seed in range(20):
        order = [part for part, _ in plan(9, seed, parts)]
        assert set(order[:4]) == set(order[4:8]) == set(parts), "every kind dies once before any dies twice"
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
    place, record, noted = Dying(tmp_path), Record({}), []
    planned = [("worker", 3), ("driver", 8), ("driver", 15)]
    disturbed(place, 40, planned, 0, record, lambda: noted.append(len(record.kills)))
    assert place.killed == ["worker", "driver", "driver"]
    assert record.codes == [-9, -9]
    assert [kill.step >= step for kill, (_, step) in zip(record.kills, planned, strict=True)] == [True] * 3
    assert all(earlier.at < later.at for earlier, later in pairwise(record.kills))
    assert all(kill.recovered > 0 for kill in record.kills)
    assert noted == [1, 2, 3]


def test_a_soak_that_was_ended_goes_on_with_the_kills_that_are_left(tmp_path: Path) -> None:
    path, asked = tmp_path / "soak.json", {"kills": 2, "seed": 0}
    record = Record(asked, [Kill("driver", 4, 9.0, 3.0)], [-9], 12.0)
    record.save(path)
    again = Record.load(path, asked)
    assert again == record
    place = Dying(tmp_path)
    disturbed(place, 20, [("driver", 3), ("worker", 6)], 0, again, lambda: again.save(path))
    assert place.killed == ["worker"]
    assert [kill.part for kill in again.kills] == ["driver", "worker"]
    assert again.kills[1].at > 12.0
    with pytest.raises(ValueError, match=r"soak\.json is of a soak with .*'seed': 0.* take another --folder"):
        Record.load(path, {"kills": 2, "seed": 1})


def test_the_result_counts_kills_by_kind() -> None:
    kills = [Kill("node", 4, 9.0, 30.0), Kill("reader", 12, 50.0, 0.5), Kill("node", 20, 60.0, 20.0)]
    found = result(Record({"seed": 3}, kills, [-9], 90.0), 44, ["a difference"], 7)
    assert found["kills_by_kind"] == {"node": 2, "reader": 1}
    assert found["recovered_seconds"] == {"node": 25.0, "reader": 0.5}
    assert (found["seed"], found["lost_steps"], found["seconds"], found["exit_codes"]) == (3, 7, 90.0, [-9, 0])
    assert json.loads(json.dumps(found)) == found
    assert in_words(kills[0], 1, 3) == "    9.0 s  kill 1/3: node at step 4; the run was past it 30.0 s later"


class Busy:
    """A cluster whose head needs several tries, and what was ended between them."""

    def __init__(self, failures: int, code: object = "error: head did not start") -> None:
        self.failures, self.code, self.ended = failures, code, list[str]()
        self.state = SimpleNamespace(head="127.0.0.11", network="127.0.0")

    def up(self, workers: int, cpus: int) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise SystemExit(self.code)

    def nodes(self) -> set[str]:
        return {"127.0.0.11", "127.0.0.13"}

    def end(self, name: str, number: int) -> None:
        self.ended.append(name)


def test_nodes_that_start_too_slowly_are_ended_and_tried_again() -> None:
    place = ClusterPlace.__new__(ClusterPlace)
    place._cluster = Busy(TRIES - 1)
    place._up()
    assert place._cluster.ended == ["worker-1"] * (TRIES - 1)
    place._cluster = Busy(TRIES)
    with pytest.raises(RuntimeError, match="head did not start"):
        place._up()
    place._cluster = Busy(1, code=75)
    with pytest.raises(SystemExit):
        place._up()
