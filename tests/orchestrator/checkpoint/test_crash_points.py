"""A process that dies at any operation of a save, a commit or a collection leaves the old checkpoint or the new."""

import errno
from collections.abc import Callable

import pytest

from orchestrator.checkpoint import AsyncSaver, Collector, Keep, newest, resume, scan
from tests.orchestrator.checkpoint.layouts import NOBODY, blank, cut, same, save, savers, state_of, whole
from tests.orchestrator.memory import MemoryStorage

PART = 16


def two_checkpoints(world: int) -> MemoryStorage:
    storage = MemoryStorage()
    group = savers([storage.view() for _ in range(world)], "1.a", part_bytes=PART)
    assert save(group, 10)
    assert save(group, 20)
    return storage


def loads(storage: MemoryStorage) -> int:
    """The step that a fresh process resumes from, after checking every value."""
    chunks = blank(cut(state_of(0), 0, 1))
    step = resume(storage, chunks).manifest.step
    assert same(whole(chunks), state_of(step))
    return step


@pytest.mark.parametrize("answer_lost", [False, True])
@pytest.mark.parametrize("victim", [0, 1, 2])
def test_death_at_every_operation_of_a_save(victim: int, answer_lost: bool) -> None:
    outcomes = []
    for point in range(100):
        storage = two_checkpoints(3)
        views = [storage.view() for _ in range(3)]
        views[victim] = storage.view(die_at=point, answer_lost=answer_lost)
        group = savers(views, "2.b", part_bytes=PART, deadline=5.0, keep=Keep(ephemeral=0))
        committed = save(group, 30)
        step = loads(storage)
        assert step in (20, 30)
        assert step == 30 or not committed
        outcomes.append(step)
        # The next start finds its way from whatever was left, and clears it away.
        again = savers([storage.view()], "3.c", part_bytes=PART, keep=Keep(ephemeral=0))
        assert save(again, 40)
        assert loads(storage) == 40
        assert all(folder.committed for folder in scan(storage))
        if not views[victim].dead:
            break
    assert outcomes[-1] == 30
    assert len(outcomes) > 3
    if victim == 0:
        assert outcomes == sorted(outcomes)


@pytest.mark.parametrize("answer_lost", [False, True])
def test_death_at_every_operation_of_a_collection(answer_lost: bool) -> None:
    for point in range(200):
        storage = MemoryStorage()
        group = savers([storage.view(), storage.view()], "1.a", part_bytes=PART)
        for step in range(10, 60, 10):
            assert save(group, step, "ephemeral")
        torn = savers([storage.view(die_at=2)], "1.b", part_bytes=PART)
        assert not save(torn, 60)
        dying = storage.view(die_at=point, answer_lost=answer_lost)
        try:
            Collector(dying, Keep()).collect(NOBODY)
        except OSError:
            assert dying.dead
        assert loads(storage) == 50
        good = [folder for folder in scan(storage) if folder.committed]
        assert len(good) >= 2
        assert [folder.step for folder in good][:2] == [50, 40]
        assert newest(storage).skipped == ()
        Collector(storage, Keep()).collect(NOBODY)
        assert [folder.step for folder in scan(storage)] == [50, 40]
        if not dying.dead:
            break
    assert 10 < point < 199


def full_disk(when: Callable[[str, str], bool]) -> Callable[[str, str], None]:
    def before(operation: str, path: str) -> None:
        if operation == "write" and when(operation, path):
            raise OSError(errno.ENOSPC, "No space left on device")

    return before


@pytest.mark.parametrize("rank", [0, 1])
def test_a_full_disk_costs_one_save_and_is_told_once(rank: int) -> None:
    storage = two_checkpoints(2)
    views = [storage.view(), storage.view()]
    room = {"full": True}
    views[rank].before = full_disk(lambda _, path: room["full"] and path.endswith("-001.safetensors"))
    group = savers(views, "2.b", part_bytes=PART, keep=Keep())
    assert not save(group, 30)
    assert loads(storage) == 20
    left = [path for path in storage.list() if f"step-000000030-2.b.1/shard-0000{rank}" in path]
    assert not any(path.endswith(".safetensors") for path in left)
    assert save(group, 40) is False
    room["full"] = False
    assert save(group, 50)
    assert loads(storage) == 50
    assert [folder.step for folder in scan(storage)] == [50, 20, 10]


def test_a_failing_rank_is_named_by_rank_0_at_once() -> None:
    storage = MemoryStorage()
    views = [storage.view(), storage.view()]
    views[1].before = full_disk(lambda _, path: path.endswith(".safetensors"))
    group = savers(views, "2.b", deadline=1e9)
    for rank in (1, 0):
        group[rank].begin(5, cut(state_of(5), rank, 2), {})
        assert not group[rank].finish()
    (event,) = group[0].events()
    assert event.outcome == "failed"
    assert "not saved on rank 1: OSError: [Errno 28] No space left" in event.message


def test_a_missing_rank_is_named_after_the_deadline() -> None:
    storage = MemoryStorage()
    (alone, _) = savers([storage, storage.view()], "2.b", deadline=30.0)
    alone.begin(5, cut(state_of(5), 0, 2), {})
    assert not alone.finish()
    (event,) = alone.events()
    assert "1 of 2 ranks (first 1) had not landed 30 s after" in event.message
    assert event.seconds >= 30.0
    assert newest(storage) is None


def test_saves_failing_in_a_row_end_the_run_and_one_success_forgives() -> None:
    storage = MemoryStorage()
    fails = {"now": True}
    storage.before = full_disk(lambda _, path: fails["now"])
    (saver,) = savers([storage], "1.a", failures_allowed=2)
    assert not save([saver], 1)
    assert not save([saver], 2)
    fails["now"] = False
    assert save([saver], 3)
    fails["now"] = True
    for step in (4, 5, 6):
        assert not save([saver], step)
    with pytest.raises(Exception, match="3 saves in a row have failed; the last: the checkpoint of step 6"):
        saver.begin(7, cut(state_of(7), 0, 1), {})
    assert loads(MemoryStorage(storage.objects)) == 3


def test_ranks_that_disagree_are_not_committed() -> None:
    for chunks, message in (
        ({1: cut(state_of(1), 0, 1)}, "two ranks own the same part"),
        ({1: cut({"param/scale": state_of(1)["param/scale"].float()}, 1, 2)}, "another rank as"),
        ({0: {n: c._replace(is_owner=False) for n, c in cut(state_of(1), 0, 2).items()}}, "no rank owns some part"),
    ):
        storage = MemoryStorage()
        group = savers([storage, storage.view()], "1.a")
        for rank in (1, 0):
            group[rank].begin(1, chunks.get(rank, cut(state_of(1), rank, 2)), {})
            group[rank].finish()
        (event,) = group[0].events()
        assert message in event.message
        assert newest(storage) is None


def test_payload_shared_by_ranks_must_agree() -> None:
    storage = MemoryStorage()
    group: list[AsyncSaver] = savers([storage, storage.view()], "1.a")
    for rank in (1, 0):
        group[rank].begin(1, cut(state_of(1), rank, 2), {}, scattered={"lane 3": [rank]})
        group[rank].finish()
    assert "ranks disagree on the payload 'lane 3'" in group[0].events()[0].message
