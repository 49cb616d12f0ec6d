"""S3 storage against a real server, and against one that fails on request."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.errors import UserError
from data.storage import Changed, Missing, Retry, S3Storage, Unavailable, open_storage
from tests.fault_server import Fault, FaultServer
from tests.s3_server import S3Server, forget_credentials, set_credentials

QUICK = Retry(attempts=4, base=0.001, cap=0.01, budget=1.0)
# A busy machine may let an honest answer seem stalled, which costs one more of many attempts.
IMPATIENT = Retry(attempts=50, base=0.001, cap=0.01, budget=10.0, read=0.5)
DATA = bytes(range(256)) * 4096  # 1 MiB


def quick(server: FaultServer, retry: Retry = QUICK) -> S3Storage:
    return S3Storage("bucket", "prefix", endpoint=server.endpoint, retry=retry)


def test_real_server(s3_server: S3Server, tmp_path: Path) -> None:
    s3_server.bucket("real")
    storage = open_storage(s3_server.url("real/some/prefix"))
    tag = storage.write("a/one é+%", DATA)
    assert storage.read("a/one é+%") == DATA
    assert storage.read("a/one é+%", start=1000, length=700000, etag=tag) == DATA[1000:701000]
    assert storage.read("a/one é+%", start=len(DATA) - 5, length=100) == DATA[-5:]
    assert storage.read("a/one é+%", start=len(DATA)) == b""
    assert storage.read("a/one é+%", length=0) == b""
    storage.write("empty", b"")
    assert storage.read("empty") == b""
    assert storage.read("empty", length=10) == b""
    assert storage.list() == ["a/one é+%", "empty"]
    assert storage.list("a/") == ["a/one é+%"]
    assert storage.stats()["a/one é+%"] == storage.stat("a/one é+%")
    assert storage.stat("a/one é+%").size == len(DATA)
    with pytest.raises(Missing, match="s3://real/some/prefix/nothing does not exist"):
        storage.read("nothing")
    with pytest.raises(Missing, match="nothing"):
        storage.stat("nothing")
    with pytest.raises(Missing, match="'absent' does not exist"):
        open_storage(s3_server.url("absent")).read("x")
    storage.delete("empty")
    storage.delete("empty")
    assert pickle.loads(pickle.dumps(storage)).list() == ["a/one é+%"]
    assert open_storage(s3_server.url("real")).list("some/prefix/a/") == ["some/prefix/a/one é+%"]


def test_large_upload_in_parts(s3_server: S3Server, tmp_path: Path) -> None:
    s3_server.bucket("parts")
    storage = open_storage(s3_server.url("parts"))
    source = tmp_path / "source"
    source.write_bytes(os.urandom(17 << 20))
    storage.upload("large", source)
    stat = storage.stat("large")
    assert stat == storage.stats()["large"]
    assert storage.read("large", etag=stat.etag) == source.read_bytes()


def test_conditions_seen_beforehand_hold_where_the_server_ignores_them(s3_server: S3Server) -> None:
    storage = open_storage(s3_server.bucket("leases"))
    tag = storage.write("lease", b"mine", if_absent=True)
    with pytest.raises(Changed):
        storage.write("lease", b"yours", if_absent=True)
    storage.write("lease", b"other", if_match=tag)
    with pytest.raises(Changed):
        storage.write("lease", b"yours", if_match=tag)
    with pytest.raises(Changed, match="replaced while in use"):
        storage.read("lease", etag=tag)
    assert storage.read("lease") == b"other"


def test_wrong_credentials_are_named_without_their_secret(
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s3_server.bucket("locked")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "notthesecretatall")
    forget_credentials()
    with pytest.raises(UserError, match="check the credentials") as caught:
        open_storage(s3_server.url("locked")).read("x")
    assert "notthesecretatall" not in str(caught.value)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    forget_credentials()
    with pytest.raises(UserError, match="no credentials were found"):
        open_storage(s3_server.url("locked")).read("x")
    monkeypatch.undo()
    forget_credentials()


def test_endpoint_from_the_environment(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fault_server.objects["bucket/x"] = b"content"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fault_server.endpoint)
    assert open_storage("s3://bucket").read("x") == b"content"


@pytest.mark.parametrize("how", ["close", "reset", "stall"])
@pytest.mark.parametrize("ranged", [True, False])
def test_a_broken_body_goes_on_at_the_byte_reached(fault_server: FaultServer, how: str, ranged: bool) -> None:
    fault_server.objects["bucket/prefix/x"] = DATA
    fault_server.faults += [Fault(cut=700_000, how=how), Fault(cut=0, how="close"), Fault(cut=10, how="close")]
    storage = quick(fault_server, IMPATIENT if how == "stall" else QUICK)
    start, length = (1000, 900_000) if ranged else (0, None)
    assert storage.read("x", start=start, length=length) == (DATA[1000:901_000] if ranged else DATA)
    assert storage.resumed_reads == 3 or (how == "stall" and storage.resumed_reads > 3)
    first, *rest = [int((log[2] or "bytes=0-")[6:].split("-")[0]) for log in fault_server.log]
    assert first == start
    # What had arrived is not asked for again; a reset may take with it what the client had not read yet.
    assert rest == sorted(rest)
    assert start + (0 if how == "reset" else 700_000 - (256 << 10)) <= rest[0] <= start + 700_000


def test_progress_earns_new_attempts(fault_server: FaultServer) -> None:
    fault_server.objects["bucket/prefix/x"] = DATA
    fault_server.faults += [Fault(cut=1000) for _ in range(2 * QUICK.attempts)]
    assert quick(fault_server).read("x") == DATA


def test_bodies_that_break_forever_end_in_time(fault_server: FaultServer) -> None:
    fault_server.objects["bucket/prefix/x"] = DATA
    fault_server.faults += [Fault(cut=0) for _ in range(20)]
    with pytest.raises(Unavailable, match="s3://bucket/prefix/x from byte 0 failed 4 times in a row"):
        quick(fault_server).read("x")
    assert len(fault_server.log) == 4
    broke = Retry(attempts=10, base=30.0, cap=30.0, budget=0.0)
    with pytest.raises(Unavailable, match="failed 1 times"):
        quick(fault_server, broke).read("x")


def test_an_object_replaced_mid_read_is_refused(fault_server: FaultServer) -> None:
    fault_server.objects["bucket/prefix/x"] = DATA
    fault_server.faults += [Fault(cut=300_000), Fault(replace=DATA[::-1])]
    with pytest.raises(Changed, match="s3://bucket/prefix/x was replaced while in use"):
        quick(fault_server).read("x")
    assert fault_server.answers[-1] == 412  # the server compared, and sent no body for nothing
    stat = quick(fault_server).stat("x")
    fault_server.objects["bucket/prefix/x"] = b"new"
    with pytest.raises(Changed, match="replaced"):
        quick(fault_server).read("x", start=0, length=2, etag=stat.etag)


def test_slow_down_is_retried_then_named(fault_server: FaultServer) -> None:
    fault_server.objects["bucket/prefix/x"] = DATA
    fault_server.faults += [Fault(status=503), Fault(status=500, code="InternalError")]
    assert quick(fault_server).read("x", length=10) == DATA[:10]
    assert len(fault_server.log) == 3
    fault_server.faults += [Fault(status=503)] * 2
    with pytest.raises(Unavailable, match="503 SlowDown after 2 attempts"):
        quick(fault_server, Retry(attempts=2)).read("x")
    fault_server.faults += [Fault(method="HEAD", status=503)] * 2
    with pytest.raises(Unavailable, match="503"):
        quick(fault_server, Retry(attempts=2)).stat("x")


def test_defaults_insist_and_time_out() -> None:
    config = S3Storage("bucket", endpoint="http://127.0.0.1:9").client.meta.config
    assert config.retries["mode"] == "standard"
    assert config.retries["total_max_attempts"] >= 10
    assert (config.connect_timeout, config.read_timeout) == (10, 30)
    assert config.response_checksum_validation == "when_required"


def test_unreachable_and_unfit_servers_are_named(fault_server: FaultServer) -> None:
    with pytest.raises(Unavailable, match="could not be reached"):
        S3Storage("bucket", endpoint="http://127.0.0.1:9", retry=Retry(attempts=1)).read("x")
    fault_server.objects["bucket/prefix/x"] = DATA
    fault_server.ignore_ranges = True
    with pytest.raises(UserError, match="ignores ranged reads"):
        quick(fault_server).read("x", start=5, length=5)
    fault_server.faults += [Fault(method="PUT", status=501, code="NotImplemented")]
    with pytest.raises(UserError, match="does not implement"):
        quick(fault_server).write("y", b"", if_absent=True)
    fault_server.faults += [Fault(status=403, code="RequestTimeTooSkewed")]
    with pytest.raises(UserError, match="clock is wrong"):
        quick(fault_server).read("x")


def test_conditional_writes(fault_server: FaultServer) -> None:
    storage = quick(fault_server)
    tag = storage.write("lease", b"one", if_absent=True)
    assert tag == storage.stat("lease").etag
    with pytest.raises(Changed):
        storage.write("lease", b"two", if_absent=True)
    storage.write("lease", b"two", if_match=tag)
    with pytest.raises(Changed):
        storage.write("lease", b"three", if_match=tag)
    storage.delete("lease")
    with pytest.raises(Changed):
        storage.write("lease", b"three", if_match=tag)
    assert storage.list() == []


@pytest.mark.parametrize("fresh", [True, False])
def test_one_of_many_writers_wins(fault_server: FaultServer, fresh: bool) -> None:
    storage = quick(fault_server)
    tag = None if fresh else storage.write("lease", b"start")
    assert storage.client is storage.client
    barrier, won = threading.Barrier(6), []

    def contend(name: int) -> None:
        barrier.wait()
        try:
            storage.write("lease", bytes([name]), if_absent=fresh, if_match=tag)
            won.append(name)
        except Changed:
            pass

    threads = [threading.Thread(target=contend, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read("lease") == bytes(won)


def test_a_conditional_write_whose_answer_was_lost_is_ours(fault_server: FaultServer) -> None:
    storage = quick(fault_server)
    fault_server.faults += [Fault(method="PUT", lost=True)]
    tag = storage.write("lease", b"mine", if_absent=True)
    assert tag == storage.stat("lease").etag
    puts = [log for log in fault_server.log if log[0] == "PUT"]
    assert len(puts) == 2


def test_a_write_conflict_is_tried_again(fault_server: FaultServer) -> None:
    fault_server.faults += [Fault(method="PUT", status=409, code="ConditionalRequestConflict")]
    quick(fault_server).write("lease", b"mine", if_absent=True)
    assert fault_server.objects["bucket/prefix/lease"] == b"mine"


def test_pickled_objects_hold_no_client_and_no_secret(fault_server: FaultServer) -> None:
    storage = quick(fault_server)
    storage.write("x", b"content")
    raw = pickle.dumps(storage)
    assert b"testsecretkey" not in raw
    assert b"testaccesskey" not in raw
    assert pickle.loads(raw).read("x") == b"content"


@pytest.fixture(scope="module")
def moto_endpoint() -> Iterator[str]:
    """A second implementation of S3 that keeps conditions on writes."""
    server = pytest.importorskip("moto.server", reason="moto's server is not installed").ThreadedMotoServer(
        "127.0.0.1", 0
    )
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_conditional_writes_on_another_server(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_credentials(monkeypatch)
    storage = S3Storage("leases", endpoint=moto_endpoint, retry=QUICK)
    storage.client.create_bucket(Bucket="leases")
    # Only the server's own answer may decide here, not what can be seen before the write.
    monkeypatch.setattr(S3Storage, "_check_before", lambda *_: None)
    tag = storage.write("lease", b"one", if_absent=True)
    with pytest.raises(Changed):
        storage.write("lease", b"two", if_absent=True)
    newer = storage.write("lease", b"two", if_match=tag)
    with pytest.raises(Changed):
        storage.write("lease", b"three", if_match=tag)
    with pytest.raises(Changed):
        storage.read("lease", etag=tag)
    assert storage.read("lease", start=1, length=5, etag=newer) == b"wo"
    assert storage.stats() == {"lease": storage.stat("lease")}


def test_a_server_without_tags_still_reads(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fault_server.etag", lambda _: "")
    fault_server.objects["bucket/prefix/x"] = DATA
    storage = quick(fault_server)
    fault_server.faults += [Fault(cut=1000)]
    assert storage.read("x", etag=storage.stat("x").etag) == DATA
    with pytest.raises(UserError, match="gives no ETags"):
        storage.write("x", b"", if_match=storage.stat("x").etag)
