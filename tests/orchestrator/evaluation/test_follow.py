"""A live run is told by its lease: held, beating, and its holder not known to be dead."""

import dataclasses
from pathlib import Path

from data.storage import open_storage
from orchestrator.evaluation.follow import Liveness
from orchestrator.lease import PATH, Record, acquire, this_process


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_run_lives_while_its_lease_is_held(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    alive = Liveness(storage)
    assert not alive()
    lease = acquire(storage)
    assert alive()
    lease.close()
    assert not alive()


def test_a_holder_that_died_on_this_machine_is_seen_at_once(tmp_path: Path) -> None:
    holder = dataclasses.replace(this_process(), started="1")
    open_storage(tmp_path).write(PATH, Record(holder, 1, 0, 20.0).encode())
    assert not Liveness(open_storage(tmp_path))()


def test_a_lease_that_no_longer_beats_is_given_up_after_twice_its_time(tmp_path: Path) -> None:
    storage, clock = open_storage(tmp_path), Clock()
    elsewhere = dataclasses.replace(this_process(), machine="another")
    storage.write(PATH, Record(elsewhere, 1, 0, 20.0).encode())
    alive = Liveness(storage, clock)
    assert alive()
    clock.now = 39
    assert alive()
    storage.write(PATH, Record(elsewhere, 1, 1, 20.0).encode())
    clock.now = 70
    assert alive()
    clock.now = 111
    assert not alive()
