"""Which checkpoints stay."""

from collections import namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from data.storage import LocalStorage
from orchestrator.checkpoint import Collector, Keep, require_space, scan
from orchestrator.checkpoint.retention import Held, superfluous
from tests.orchestrator.checkpoint.layouts import NOBODY, cut, save, savers, state_of
from tests.orchestrator.memory import MemoryStorage


def held(marks: str) -> list[Held]:
    """Newest first: P and E are good, p and e look good no more, ? cannot be read."""
    kinds = {"p": "permanent", "e": "ephemeral"}
    return [Held(str(i), 100 - i, kinds.get(mark.lower()), mark.isupper()) for i, mark in enumerate(marks)]


@pytest.mark.parametrize(
    ("marks", "keep", "gone"),
    [
        ("EEEE", Keep(), "32"),
        ("EEPEP", Keep(), "3"),
        ("PEPEPE", Keep(), "53"),
        ("PEPEPE", Keep(permanent=2), "543"),
        ("PPPPP", Keep(permanent=1), "432"),
        ("PPPPP", Keep(), ""),
        ("?EE?EE", Keep(), "543"),
        ("?E?", Keep(), ""),
        ("EEEEE", Keep(ephemeral=3), "43"),
        ("PE", Keep(permanent=1, ephemeral=0), ""),
        ("", Keep(), ""),
    ],
)
def test_rules(marks: str, keep: Keep, gone: str) -> None:
    assert superfluous(held(marks), keep) == list(gone)


@given(st.text("PE?", max_size=12), st.none() | st.integers(1, 4), st.integers(0, 4))
def test_the_newest_two_good_ones_always_stay(marks: str, permanent: int | None, ephemeral: int) -> None:
    checkpoints = held(marks)
    gone = superfluous(checkpoints, Keep(permanent, ephemeral))
    good = [checkpoint.folder for checkpoint in checkpoints if checkpoint.good]
    assert not set(good[:2]) & set(gone)
    if permanent is None:
        assert not any(c.kind == "permanent" and c.folder in gone for c in checkpoints)


def test_keep_refuses_nothing_kept() -> None:
    with pytest.raises(UserError, match="keep at least one permanent"):
        Keep(permanent=0)


def test_a_silent_flip_in_a_survivor_keeps_an_older_one() -> None:
    storage = MemoryStorage()
    group = savers([storage], "1.a")
    for step in (10, 20, 30):
        assert save(group, step, "ephemeral")
    path = next(path for path in storage.list() if "step-000000020" in path and path.endswith("tensors"))
    data = bytearray(storage.objects.content[path])
    data[-1] ^= 1
    storage.objects.content[path] = bytes(data)
    assert Collector(storage, Keep()).collect(NOBODY) == []
    assert save(group, 40, "ephemeral")
    assert Collector(storage, Keep()).collect(NOBODY) == [
        "step-000000010-1.a.1", "step-000000020-1.a.2",
    ]  # fmt: skip


def test_survivors_are_read_through_once_and_only_before_a_deletion() -> None:
    storage = MemoryStorage()
    group = savers([storage.view()], "1.a")
    collector = Collector(storage, Keep())

    def shards_read() -> int:
        count = sum(path.endswith("tensors") for path, _ in storage.reads)
        storage.reads.clear()
        return count

    for step, reads in ((10, 0), (20, 0), (30, 2), (40, 1), (50, 1)):
        assert save(group, step, "ephemeral")
        collector.collect(NOBODY)
        assert shards_read() == reads


def test_orphans_of_dead_attempts_go_and_the_save_in_flight_stays() -> None:
    storage = MemoryStorage()
    for name in ("step-000000005-0.dead.1", "step-000000006-1.a.4", "step-000000007-1.a.5"):
        storage.write(f"checkpoints/{name}/shard-00000-of-00001-000.safetensors", b"x")
    collector = Collector(storage, Keep())

    def in_flight(attempt: str) -> bool:
        return attempt == "1.a.5"

    assert collector.collect(in_flight, dry_run=True) == ["step-000000005-0.dead.1", "step-000000006-1.a.4"]
    assert len(scan(storage)) == 3
    assert collector.collect_orphans(in_flight) == ["step-000000006-1.a.4", "step-000000005-0.dead.1"]
    assert [folder.name for folder in scan(storage)] == ["step-000000007-1.a.5"]


def test_a_lost_lease_deletes_nothing() -> None:
    storage = MemoryStorage()
    group = savers([storage], "1.a")
    for step in (10, 20, 30):
        assert save(group, step, "ephemeral")

    def fence() -> None:
        raise UserError("not ours")

    with pytest.raises(UserError, match="not ours"):
        Collector(storage, Keep(), fence=fence).collect(NOBODY)
    assert len(scan(storage)) == 3


def test_space_is_looked_at_before_the_run(tmp_path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0, 0, 10 * 10**9))
    storage = LocalStorage(tmp_path / "not" / "there")
    require_space(storage, 3 * 10**9, Keep())
    with pytest.raises(UserError, match=r"10\.00 GB free; 3 checkpoints of 4\.00 GB need 12\.00 GB"):
        require_space(storage, 4 * 10**9, Keep())
    require_space(MemoryStorage(), 10**15, Keep())
    (saver,) = savers([storage], "1.a")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0, 0, 10))
    saver.begin(1, cut(state_of(1), 0, 1), {})
    assert not saver.finish()
    assert "0.00 GB free" in saver.events()[0].message


def test_what_a_killed_writer_left_on_disk_goes_with_its_folder(tmp_path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("checkpoints/step-000000005-0.dead.1/shard-00000-of-00001-000.safetensors", b"x")
    folder = tmp_path / "checkpoints" / "step-000000005-0.dead.1"
    (folder / ".shard.0123456789abcdef.partial").write_bytes(b"torn")
    assert Collector(storage, Keep()).collect(NOBODY) == [folder.name]
    assert not folder.exists()
