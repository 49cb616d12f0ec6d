"""Saving goes on behind the step: what is saved is the moment of `begin`, one save at a time, stall measured."""

import threading

import pytest
import torch

from orchestrator.checkpoint import AsyncSaver, Chunk, Keep, Manifest, newest, resume, scan
from orchestrator.lease import LeaseLost, acquire
from tests.orchestrator.checkpoint.layouts import cut, save, savers, state_of
from tests.orchestrator.memory import FakeClock, MemoryStorage


class Gate:
    """Holds up writes of shards until opened."""

    def __init__(self) -> None:
        self.open, self.reached = threading.Event(), threading.Event()

    def __call__(self, operation: str, path: str) -> None:
        if operation == "write" and path.endswith(".safetensors"):
            self.reached.set()
            assert self.open.wait(10)


def saver_behind(gate: Gate, storage: MemoryStorage) -> AsyncSaver:
    return AsyncSaver(storage.view(before=gate), rank=0, world=1, attempt="1.a")


def test_what_is_saved_is_the_moment_of_begin() -> None:
    storage, gate = MemoryStorage(), Gate()
    saver = saver_behind(gate, storage)
    weights = torch.arange(6.0)
    chunks = {"w": Chunk((6,), (0,), weights, True)}
    saver.begin(1, chunks, {"at": 1})
    assert gate.reached.wait(10)
    assert saver.busy
    assert saver.events() == []
    weights += 100
    gate.open.set()
    assert saver.finish()
    assert not saver.busy
    found = resume(storage, chunks)
    assert torch.equal(weights, torch.arange(6.0))
    assert found.manifest.payload["at"] == 1


def test_a_second_save_waits_for_the_first_and_the_wait_is_stall() -> None:
    storage, gate = MemoryStorage(), Gate()
    saver = saver_behind(gate, storage)
    chunks = cut(state_of(1), 0, 1)
    first = saver.begin(1, chunks, {})
    assert gate.reached.wait(10)
    threading.Timer(0.2, gate.open.set).start()
    second = saver.begin(2, chunks, {})
    assert saver.finish()
    assert second >= 0.15
    assert second > first
    assert saver.stall_seconds == pytest.approx(first + second)
    assert [(event.step, event.outcome) for event in saver.events()] == [(1, "committed"), (2, "committed")]
    assert saver.events() == []


def test_copies_of_one_part_are_saved_by_their_owner_alone() -> None:
    storage = MemoryStorage()
    group = savers([storage.view(), storage.view()], "1.a")
    for rank in (1, 0):
        local = torch.full((4,), float(rank))
        group[rank].begin(1, {"w": Chunk((4,), (0,), local, rank == 1)}, {"rank": rank})
        group[rank].finish()
    target = {"w": Chunk((4,), (0,), torch.zeros(4), True)}
    assert resume(storage, target).manifest.payload["rank"] == 0
    assert torch.equal(target["w"].local, torch.ones(4))


def test_a_committed_folder_holds_shards_and_manifest_alone() -> None:
    storage = MemoryStorage()
    assert save(savers([storage.view(), storage.view()], "1.a"), 5)
    assert sorted(scan(storage)[0].objects) == [
        "manifest.json", "shard-00000-of-00002-000.safetensors", "shard-00001-of-00002-000.safetensors",
    ]  # fmt: skip


def test_events_name_what_was_collected() -> None:
    storage = MemoryStorage()
    (saver,) = savers([storage], "1.a", keep=Keep(ephemeral=1))
    for step in (1, 2):
        assert save([saver], step, "ephemeral")
    saver.begin(3, cut(state_of(3), 0, 1), {}, kind="ephemeral")
    saver.finish()
    committed, collected = saver.events()
    assert (committed.outcome, collected.outcome) == ("committed", "collected")
    assert collected.collected == ("step-000000001-1.a.1",)


def test_a_slow_collection_holds_up_no_save_and_takes_nothing_of_it() -> None:
    storage, gate = MemoryStorage(), Gate()

    def slow(storage: MemoryStorage, manifest: Manifest) -> None:
        gate("write", ".safetensors")

    (saver,) = savers([storage], "1.a", keep=Keep(), check=slow)
    chunks = cut(state_of(1), 0, 1)
    for step in (1, 2, 3):
        saver.begin(step, chunks, {}, kind="ephemeral")
        saver._join()
    assert gate.reached.wait(10)
    for step in (4, 5):
        saver.begin(step, chunks, {}, kind="ephemeral")
        saver._join()
    assert newest(storage).manifest.step == 5
    gate.open.set()
    assert saver.finish()
    assert [folder.step for folder in scan(storage) if folder.committed] == [5, 4, 3, 2]
    saver.begin(6, chunks, {}, kind="ephemeral")
    assert saver.finish()
    assert [folder.step for folder in scan(storage) if folder.committed] == [6, 5]


def test_a_save_after_a_takeover_is_refused_and_ends_the_run() -> None:
    storage = MemoryStorage()
    ours = acquire(storage.view(), clock=FakeClock())
    (saver,) = savers([storage.view()], "1.a", fence=ours.fence())
    assert save([saver], 1)
    assert newest(storage).manifest.token == 1
    acquire(storage.view(), clock=FakeClock())
    with pytest.raises(LeaseLost, match="has taken over memory"):
        save([saver], 2)
    assert newest(storage).manifest.step == 1
    with pytest.raises(LeaseLost, match="has taken over memory"):
        saver.begin(3, cut(state_of(3), 0, 1), {})


def test_a_takeover_between_manifest_and_second_look_withdraws_the_commit() -> None:
    storage = MemoryStorage()
    ours = acquire(storage.view(), clock=FakeClock())

    def before(operation: str, path: str) -> None:
        if operation == "write" and path.endswith("manifest.json"):
            acquire(storage.view(), clock=FakeClock())

    (saver,) = savers([storage.view(before=before)], "1.a", fence=ours.fence())
    with pytest.raises(LeaseLost):
        save([saver], 1)
    assert newest(storage) is None
    assert storage.list("checkpoints/") == []


def deaf(storage: MemoryStorage, name: str) -> MemoryStorage:
    """A view whose write of an object called `name` lands, but raises."""
    view = storage.view()
    original = view.write

    def write(path: str, data: bytes, **conditions: object) -> str:
        etag = original(path, data, **conditions)
        if path.endswith(name):
            raise TimeoutError("no answer")
        return etag

    view.write = write  # type: ignore[method-assign]
    return view


def test_a_commit_whose_answer_was_lost_is_a_commit() -> None:
    storage = MemoryStorage()
    assert save(savers([deaf(storage, "manifest.json")], "1.a"), 4)
    assert newest(storage).manifest.step == 4


def test_a_commit_that_cannot_be_looked_at_is_withdrawn_whole() -> None:
    storage = MemoryStorage()
    view = deaf(storage, "manifest.json")

    def before(operation: str, path: str) -> None:
        if operation == "read" and path.endswith("manifest.json"):
            raise TimeoutError("no answer")

    view.before = before
    assert not save(savers([view], "1.a"), 4)
    assert scan(storage) == []


def test_a_rank_whose_receipt_may_have_landed_takes_nothing_back() -> None:
    storage = MemoryStorage()
    group = savers([storage.view(), deaf(storage, "shard-00001-of-00002.json")], "1.a")
    assert save(group, 4)
    assert [event.outcome for event in group[1].events()] == ["failed"]
    found = newest(storage)
    assert found.manifest.step == 4
    assert found.skipped == ()


def test_payload_must_be_json() -> None:
    (saver,) = savers([MemoryStorage()], "1.a")
    saver.begin(1, cut(state_of(1), 0, 1), {"loss": float("nan")})
    assert not saver.finish()
    assert "must be plain JSON" in saver.events()[0].message
