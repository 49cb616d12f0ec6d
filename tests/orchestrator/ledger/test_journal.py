"""Events are appended whole, in order, by several writers, through crashes and outages."""

import math
import threading
from pathlib import Path

import pytest

from data.storage import LocalStorage
from orchestrator.ledger import Ledger, read_events
from tests.orchestrator.memory import MemoryStorage


def kinds(storage) -> list[str]:
    return [event["kind"] for event in read_events(storage)]


def test_events_come_back_in_order_before_and_after_they_are_written(tmp_path: Path) -> None:
    ledger = Ledger(LocalStorage(tmp_path), clock=lambda: 12.5)
    for number in range(5):
        ledger.append("attempt", step=number, nodes={"a": 1}, pair=(1, 2))
    events = ledger.events()
    assert [event["step"] for event in events] == list(range(5))
    assert events[0] == {"kind": "attempt", "time": 12.5, "step": 0, "nodes": {"a": 1}, "pair": [1, 2]}
    ledger.close()
    assert read_events(LocalStorage(tmp_path)) == events


def test_what_json_does_not_have_becomes_text() -> None:
    storage = MemoryStorage()
    ledger = Ledger(storage)
    ledger.append("fault", loss=math.nan, limit=math.inf, path=Path("a/b"), deep=[{1: -math.inf}])
    ledger.close()
    (event,) = read_events(storage)
    assert (event["loss"], event["limit"], event["path"], event["deep"]) == ("nan", "inf", "a/b", [{"1": "-inf"}])


def test_full_segments_are_followed_by_new_ones_and_never_touched_again() -> None:
    storage = MemoryStorage()
    ledger = Ledger(storage, segment_bytes=200)
    for number in range(20):
        ledger.append("progress", first=number, last=number, seconds=1.0)
        ledger.flush()
    ledger.close()
    sizes = [len(storage.objects.content[path]) for path in storage.list("ledger/")]
    assert len(sizes) > 5
    assert max(sizes) <= 200
    assert [event["first"] for event in read_events(storage)] == list(range(20))


def test_writers_share_a_ledger_without_losing_a_line() -> None:
    storage = MemoryStorage()
    ledgers = [Ledger(storage.view(), segment_bytes=300) for _ in range(4)]

    def write(who: int) -> None:
        for number in range(25):
            ledgers[who].append("checkpoint", who=who, number=number)
            if number % 3 == who % 3:
                ledgers[who].flush()
        ledgers[who].close()

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = read_events(storage)
    for who in range(4):
        assert [event["number"] for event in events if event["who"] == who] == list(range(25))


@pytest.mark.parametrize("answer_lost", [False, True])
def test_a_writer_that_dies_at_any_write_loses_only_what_it_was_not_told_of(answer_lost: bool) -> None:
    for point in range(6):
        storage = MemoryStorage()
        ledger = Ledger(storage.view(die_at=point, answer_lost=answer_lost), segment_bytes=150)
        told = 0
        try:
            for number in range(6):
                with ledger._writing:
                    ledger.append("checkpoint", number=number)
                ledger.flush()
                told = number + 1
        except OSError:
            pass
        ledger.close()
        numbers = [event["number"] for event in read_events(storage)]
        assert numbers[:told] == list(range(told))
        assert numbers == list(range(len(numbers)))
        assert len(numbers) <= told + 1
        after = Ledger(storage)
        after.append("attempt", step=0)
        after.close()
        assert kinds(storage)[-1] == "attempt"


def test_an_outage_delays_events_and_loses_none() -> None:
    storage = MemoryStorage()
    away = threading.Event()
    tried = threading.Event()
    away.set()

    def before(operation: str, path: str) -> None:
        if away.is_set() and operation in ("write", "list"):
            tried.set()
            raise ConnectionError("storage is away")

    ledger = Ledger(storage.view(before=before))
    ledger.append("fault", fault="storage")
    assert tried.wait(10)
    with pytest.raises(ConnectionError):
        ledger.flush()
    ledger.append("attempt", step=1)
    assert read_events(storage) == []
    away.clear()
    ledger.close()
    assert kinds(storage) == ["fault", "attempt"]


def test_a_torn_last_line_is_passed_over_and_a_torn_middle_named() -> None:
    storage = MemoryStorage()
    storage.write("ledger/000000000-ab.jsonl", b'{"kind":"start"}\n{"kind":"att')
    torn = b'{"kind":"attempt"}\n\xff\xfe\n[1]\n{"no":"kind"}\n{"kind":"outcome"}\n'
    storage.write("ledger/000000001-0c.jsonl", torn)
    storage.write("ledger/readme.txt", b"not a segment")
    events = read_events(storage)
    assert [event["kind"] for event in events] == ["start", "attempt", *["unreadable"] * 3, "outcome"]
    assert events[2] == {"kind": "unreadable", "segment": "ledger/000000001-0c.jsonl", "line": 2}
