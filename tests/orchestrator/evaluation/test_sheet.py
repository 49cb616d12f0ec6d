"""Outputs at rest: an evaluation that was interrupted keeps what it has; other settings start anew."""

import contextlib
from pathlib import Path

from data.storage import LocalStorage, open_storage
from data.tasks import Example
from data.tasks.outputs import read
from orchestrator.evaluation.sheet import Sheet

PATH = "evaluations/10/mine.jsonl"
EXAMPLES = [Example(f"in {n}", f"out {n}", id=str(n), answers=("a", "b")) for n in range(4)]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def sheet(folder: Path, clock: Clock | None = None, **signature: object) -> Sheet:
    return Sheet(open_storage(folder), PATH, signature, clock or Clock())


def test_outputs_survive_and_the_finished_file_is_in_the_examples_order(tmp_path: Path) -> None:
    first = sheet(tmp_path, beam=1)
    first.add([EXAMPLES[3], EXAMPLES[1]], ["x3", "x1 ünï"])
    again = sheet(tmp_path, beam=1)
    assert again.known == {"1", "3"}
    again.add([EXAMPLES[0], EXAMPLES[2]], ["x0", "x2"])
    assert again.finish(EXAMPLES) == ["x0", "x1 ünï", "x2", "x3"]
    assert read(str(tmp_path / PATH)) == (EXAMPLES, ["x0", "x1 ünï", "x2", "x3"])


def test_outputs_of_other_settings_are_thrown_away(tmp_path: Path) -> None:
    sheet(tmp_path, beam=1).add(EXAMPLES[:1], ["old"])
    other = sheet(tmp_path, beam=4)
    assert other.known == set()
    assert not (tmp_path / PATH).exists()


def test_a_death_between_removal_and_marker_leaves_no_foreign_output(tmp_path: Path) -> None:
    class Dying(LocalStorage):
        def write(self, path: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            raise KeyboardInterrupt

    sheet(tmp_path, beam=1).add(EXAMPLES[:1], ["old"])
    with contextlib.suppress(KeyboardInterrupt):
        Sheet(Dying(str(tmp_path)), PATH, {"beam": 4})
    assert sheet(tmp_path, beam=1).known == set()


def test_a_growing_file_is_written_the_rarer_the_larger_it_is(tmp_path: Path) -> None:
    clock = Clock()
    kept = sheet(tmp_path, clock)
    kept.add(EXAMPLES[:1], ["a"])
    kept.add(EXAMPLES[1:2], ["b"])
    assert len((tmp_path / PATH).read_text().splitlines()) == 1
    clock.now = 1.5
    kept.add(EXAMPLES[2:3], ["c" * 2**20])
    assert len((tmp_path / PATH).read_text().splitlines()) == 1
    clock.now = 2.5
    kept.add(EXAMPLES[3:], ["d"])
    assert len((tmp_path / PATH).read_text().splitlines()) == 4
