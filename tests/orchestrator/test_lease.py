"""One writer per run: acquisition, renewal, takeover and refusal, with clocks that never agree and writes that race."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data.errors import UserError
from data.storage import LocalStorage, Storage
from orchestrator.lease import PATH, Holder, LeaseHeld, LeaseLost, Record, acquire
from tests.orchestrator.memory import FakeClock, MemoryStorage

ELSEWHERE = Holder("host-b", 7, "another machine", "1", "aa")


def held_elsewhere(storage: Storage, token: int = 4, beat: int = 0) -> None:
    storage.write(PATH, Record(ELSEWHERE, token, beat, 20.0).encode())


def test_first_taker_gets_token_one_and_a_release_is_taken_over_at_once() -> None:
    storage, clock = MemoryStorage(), FakeClock()
    with acquire(storage, clock=clock) as lease:
        assert lease.token == 1
        lease.check()
        lease.fence().check()
    with acquire(storage, clock=clock) as lease:
        assert lease.token == 2
    assert clock.now == 0


def test_a_living_holder_is_named_and_not_disturbed() -> None:
    storage = MemoryStorage()
    held_elsewhere(storage)
    clock = FakeClock(lambda now: held_elsewhere(storage, beat=int(now)))
    with pytest.raises(LeaseHeld, match="process 7 on host-b is writing the run memory"):
        acquire(storage, clock=clock)
    assert clock.now < 20.0
    assert Record.decode(storage.read(PATH)).token == 4


def test_patience_waits_until_the_holder_is_gone() -> None:
    storage = MemoryStorage()
    held_elsewhere(storage)
    clock = FakeClock(lambda now: held_elsewhere(storage, beat=int(now)) if now < 50 else None)
    lease = acquire(storage, clock=clock, patience=100.0)
    assert lease.token == 5
    assert 70.0 <= clock.now < 80.0


def test_a_silent_holder_is_taken_over_after_its_own_time_to_live() -> None:
    storage, clock = MemoryStorage(), FakeClock()
    held_elsewhere(storage)
    lease = acquire(storage, clock=clock, time_to_live=3.0)
    assert 20.0 < clock.now < 23.0
    assert lease.token == 5
    lease.renew()


def test_the_holder_that_was_taken_over_learns_it_by_every_way() -> None:
    storage = MemoryStorage()
    old = acquire(storage.view(), clock=FakeClock())
    fence = pickle.loads(pickle.dumps(("token", old.fence().token, old.fence().nonce)))
    assert fence[1] == 1
    acquire(storage.view(), clock=FakeClock())
    with pytest.raises(LeaseLost, match=r"has taken over memory \(token 2, ours is 1\)"):
        old.fence().check()
    with pytest.raises(LeaseLost, match=r"\(token 2\) has taken over memory"):
        old.renew()
    with pytest.raises(LeaseLost):
        old.check()
    old.close()
    assert Record.decode(storage.read(PATH)).token == 2
    assert not Record.decode(storage.read(PATH)).released


def test_a_holder_that_cannot_renew_stops_believing_by_its_own_clock() -> None:
    storage, clock = MemoryStorage(), FakeClock()
    lease = acquire(storage, clock=clock, time_to_live=20.0)
    clock.now = 19.0
    lease.check()
    lease.renew()
    clock.now = 38.0
    lease.check()
    clock.now = 39.0
    with pytest.raises(LeaseLost, match="could not be renewed for 20 s"):
        lease.check()


def test_a_slow_renewal_counts_from_before_the_write() -> None:
    storage, clock = MemoryStorage(), FakeClock()
    lease = acquire(storage, clock=clock, time_to_live=20.0)

    def slow(operation: str, path: str) -> None:
        if operation == "write":
            clock.now += 15.0

    storage.before = slow
    lease.renew()
    clock.now = 20.0
    with pytest.raises(LeaseLost):
        lease.check()


def test_a_renewal_whose_answer_was_lost_is_adopted() -> None:
    storage = MemoryStorage()
    lease = acquire(storage, clock=FakeClock())
    data, etag = storage.read(PATH), storage.stat(PATH).etag
    storage.write(PATH, data, if_match=etag)
    lease.renew()
    lease.fence().check()
    assert Record.decode(storage.read(PATH)).beat == 1
    lease.renew()


def test_a_deleted_lease_stops_the_run() -> None:
    storage = MemoryStorage()
    lease = acquire(storage, clock=FakeClock())
    storage.delete(PATH)
    with pytest.raises(LeaseLost, match="is gone"):
        lease.fence().check()
    with pytest.raises(LeaseLost, match="nobody has taken over"):
        lease.renew()


@pytest.mark.parametrize("kind", ["memory", "local"])
@pytest.mark.parametrize("before", ["nothing", "silent holder"])
def test_of_many_contenders_one_wins(kind: str, before: str, tmp_path: Path) -> None:
    storage: Storage = MemoryStorage() if kind == "memory" else LocalStorage(tmp_path)
    if before != "nothing":
        held_elsewhere(storage)
    start = threading.Barrier(8)

    def contend(_: int) -> int:
        clock = FakeClock()
        start.wait()
        try:
            return acquire(storage, clock=clock).token
        except LeaseHeld:
            return 0

    with ThreadPoolExecutor(8) as pool:
        tokens = [token for token in pool.map(contend, range(8)) if token]
    # A contender that comes late may find the winner silent and take over in turn, but never with the same token.
    assert tokens
    assert len(tokens) == len(set(tokens))
    assert Record.decode(storage.read(PATH)).token == max(tokens)


def test_the_background_thread_renews_and_a_neighbor_is_refused(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with acquire(storage, time_to_live=0.4).start() as lease:
        with pytest.raises(LeaseHeld, match=f"process {os.getpid()} on "):
            acquire(storage, time_to_live=0.4)
        lease.check()
    assert Record.decode(storage.read(PATH)).beat >= 1
    assert Record.decode(storage.read(PATH)).released


def test_a_holder_killed_on_this_machine_is_succeeded_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from data.storage import LocalStorage; from orchestrator.lease import acquire\n"
        "lease = acquire(LocalStorage(sys.argv[1]), time_to_live=3600).start(); print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    storage = LocalStorage(tmp_path)
    assert not Record.decode(storage.read(PATH)).holder.is_dead_here()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    began = time.monotonic()
    assert acquire(storage).token == 2
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"holder": {"x": 1}}'])
def test_a_foreign_object_is_refused_by_name(content: bytes) -> None:
    storage = MemoryStorage()
    storage.write(PATH, content)
    with pytest.raises(UserError, match=r"lease\.json in the run folder is not a lease"):
        acquire(storage)


def test_time_to_live_must_be_positive() -> None:
    with pytest.raises(UserError, match="must be positive, not 0"):
        acquire(MemoryStorage(), time_to_live=0)
