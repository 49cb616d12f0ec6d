"""The same checkpoints, lease and ledger on S3 servers over loopback."""

from collections.abc import Iterator

import pytest

from data.storage import S3Storage, open_storage
from orchestrator.checkpoint import AsyncSaver, Collector, Keep, newest, resume, scan
from orchestrator.lease import LeaseLost, acquire
from orchestrator.ledger import Ledger, read_events
from tests.fault_server import Fault, FaultServer
from tests.orchestrator.checkpoint.layouts import NOBODY, blank, cut, same, state_of, whole
from tests.orchestrator.memory import FakeClock
from tests.s3_server import S3Server, set_credentials


@pytest.fixture(scope="module")
def moto_endpoint() -> Iterator[str]:
    """A server that keeps conditions on writes itself."""
    server = pytest.importorskip("moto.server", reason="moto's server is not installed").ThreadedMotoServer(
        "127.0.0.1", 0
    )
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def moto_url(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """An empty prefix on it."""
    set_credentials(monkeypatch)
    S3Storage("runs", endpoint=moto_endpoint).client.create_bucket(Bucket="runs")
    return f"s3://runs/{request.node.name}?endpoint={moto_endpoint}"


def test_one_save_and_resume_on_another_server(s3_server: S3Server) -> None:
    storage = open_storage(s3_server.bucket("checkpoints"))
    saver = AsyncSaver(storage, rank=0, world=1, attempt="1.a", keep=Keep())
    saver.begin(5, cut(state_of(5), 0, 1), {"step": 5})
    assert saver.finish(), saver.events()
    chunks = blank(cut(state_of(0), 0, 1))
    assert resume(storage, chunks).manifest.payload["step"] == 5
    assert same(whole(chunks), state_of(5))


def test_a_run_on_s3_saves_is_damaged_falls_back_and_collects(moto_url: str) -> None:
    storage = open_storage(moto_url)
    lease = acquire(storage, clock=FakeClock())
    group = [
        AsyncSaver(storage, rank=rank, world=2, attempt="1.a", writers=2, fence=lease.fence())
        for rank in range(2)
    ]
    for step in (10, 20):
        for rank in (0, 1):
            group[rank].begin(step, cut(state_of(step), rank, 2), {"step": step}, kind="ephemeral")
        assert group[1].finish()
        assert group[0].finish(), group[0].events()
    path = next(path for path in storage.list("checkpoints/step-000000020") if path.endswith("00002-000.safetensors"))
    storage.write(path, storage.read(path)[:-1] + b"!")
    chunks = blank(cut(state_of(0), 0, 1))
    found = resume(storage, chunks)
    assert found.manifest.step == 10
    assert found.manifest.token == 1
    assert len(found.skipped) == 1
    assert same(whole(chunks), state_of(10))

    storage.write("checkpoints/step-000000040-0.dead.1/shard-00000-of-00001-000.safetensors", b"x")
    assert Collector(storage, Keep()).collect(NOBODY) == ["step-000000040-0.dead.1"]
    assert [folder.step for folder in scan(storage)] == [20, 10]

    acquire(storage, clock=FakeClock())
    stale = AsyncSaver(storage, rank=0, world=1, attempt="1.b", fence=lease.fence())
    stale.begin(50, cut(state_of(50), 0, 1), {})
    with pytest.raises(LeaseLost):
        stale.finish()
    assert newest(storage).manifest.step == 10


@pytest.mark.parametrize(("status", "code"), [(403, "QuotaExceeded"), (507, "InsufficientStorage")])
def test_a_full_bucket_costs_one_save_and_the_older_checkpoint_stays(
    fault_server: FaultServer, status: int, code: str
) -> None:
    storage = open_storage(fault_server.url("bucket/run"))
    saver = AsyncSaver(storage, rank=0, world=1, attempt="1.a", keep=Keep())
    saver.begin(10, cut(state_of(10), 0, 1), {"step": 10})
    assert saver.finish()
    fault_server.faults += [Fault("PUT", status, code)] * 40
    saver.begin(20, cut(state_of(20), 0, 1), {"step": 20})
    assert not saver.finish()
    fault_server.faults.clear()
    failed = saver.events()[-1]
    assert (failed.outcome, failed.step) == ("failed", 20)
    assert code in failed.message
    assert newest(storage).manifest.step == 10
    saver.begin(30, cut(state_of(30), 0, 1), {"step": 30})
    assert saver.finish()
    assert [folder.step for folder in scan(storage)] == [30, 10]


def test_a_ledger_on_s3(moto_url: str) -> None:
    storage = open_storage(moto_url)
    first, second = Ledger(storage), Ledger(storage)
    for number in range(3):
        first.append("attempt", step=number)
        second.append("progress", first=number, last=number, seconds=1.0)
    first.close()
    second.close()
    assert sorted(event["kind"] for event in read_events(storage)) == ["attempt"] * 3 + ["progress"] * 3
    assert [event["step"] for event in read_events(storage) if event["kind"] == "attempt"] == [0, 1, 2]
