"""Reads under one signature: used again, made anew in time, and left to botocore where they do not simply succeed."""

from __future__ import annotations

import itertools
import logging
import threading
from typing import Any

import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

from data.storage import Changed, Retry, S3Storage, open_storage, signed
from data.storage.signed import SignedReads
from tests.fault_server import Fault, FaultServer
from tests.s3_server import SECRET, S3Server

QUICK = Retry(attempts=4, base=0.001, cap=0.01, budget=1.0)
DATA = bytes(range(256)) * 64


@pytest.fixture
def storage(fault_server: FaultServer) -> S3Storage:
    fault_server.objects |= {"bucket/x": DATA, "bucket/y": DATA[::-1]}
    return S3Storage("bucket", endpoint=fault_server.endpoint, retry=QUICK)


def parts(storage: S3Storage, count: int, path: str = "x") -> None:
    tag = storage.stat(path).etag
    data = DATA if path == "x" else DATA[::-1]
    for start in range(0, 10 * count, 10):
        assert storage.read(path, start=start, length=20, etag=tag) == data[start : start + 20]


def test_one_signature_serves_all_ranges_of_an_object(fault_server: FaultServer, storage: S3Storage) -> None:
    parts(storage, 5)
    parts(storage, 3, "y")
    gets = [s for s, (method, *_) in zip(fault_server.signatures, fault_server.log, strict=True) if method == "GET"]
    # The first read of each object is botocore's own, whose signature covers its range.
    assert [len(list(group)) for _, group in itertools.groupby(gets)] == [1, 4, 1, 2]
    assert all("range" in gets[i] and "range" not in gets[i + 1] for i in (0, 5))
    assert [asked for method, path, asked in fault_server.log if path == "bucket/y" and method == "GET"] == [
        "bytes=0-19", "bytes=10-29", "bytes=20-39"
    ]  # fmt: skip


def test_a_real_server_takes_them(s3_server: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    """rclone's server checks signatures; nothing secret is logged at any level by the reads that are signed here."""
    s3_server.bucket("signed")
    storage = open_storage(s3_server.url("signed"))
    tag = storage.write("a/one é+%", DATA)
    storage.read("a/one é+%", etag=tag)
    with caplog.at_level(logging.DEBUG):
        assert storage.read("a/one é+%", start=7, length=900, etag=tag) == DATA[7:907]
    assert "GET /signed/a/one" in caplog.text
    assert SECRET not in caplog.text
    assert "Signature" not in caplog.text


def test_old_signatures_are_made_anew(
    fault_server: FaultServer, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts(storage, 2)
    monkeypatch.setattr(signed, "FRESH", -1.0)
    parts(storage, 2)
    assert all("range" in signature for signature in fault_server.signatures[-2:])


@pytest.mark.parametrize("status", [500, 503, 404])
def test_another_answer_is_asked_for_again_by_botocore(
    fault_server: FaultServer, storage: S3Storage, status: int
) -> None:
    parts(storage, 2)
    fault_server.faults += [Fault(status=status)]
    parts(storage, 4)
    assert fault_server.answers.count(status) == 1


def test_a_server_that_wants_every_header_signed_is_asked_once_a_read(
    fault_server: FaultServer, storage: S3Storage
) -> None:
    parts(storage, 1)
    fault_server.faults += [Fault(status=403, code="SignatureDoesNotMatch")]
    parts(storage, 1)
    before = len(fault_server.log)
    parts(storage, 5)
    assert [method for method, *_ in fault_server.log[before:]] == ["HEAD"] + ["GET"] * 5
    assert all("range" in signature for signature in fault_server.signatures[before + 1 :])


def test_broken_bodies_and_replaced_objects(fault_server: FaultServer, storage: S3Storage) -> None:
    tag = storage.stat("x").etag
    storage.read("x", etag=tag)
    fault_server.faults += [Fault(cut=5000, how="reset"), Fault(cut=0, how="close")]
    assert storage.read("x", etag=tag) == DATA
    assert storage.resumed_reads == 2
    fault_server.objects["bucket/x"] = b"other"
    with pytest.raises(Changed, match="replaced while in use"):
        storage.read("x", etag=tag)


def test_memory_is_bounded(
    fault_server: FaultServer, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed, "MOST_OBJECTS", 1)
    parts(storage, 2)
    parts(storage, 2, "y")
    assert list(storage._connected()[1]._signed) == ["y"]


def test_threads_share_them(storage: S3Storage) -> None:
    failures: list[BaseException] = []

    def work(path: str) -> None:
        try:
            parts(storage, 40, path)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(path,)) for path in "xyxy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize(("region", "bucket", "options", "host"), [
    ("us-east-1", "plain", {}, "plain.s3.amazonaws.com"),
    ("eu-central-1", "plain", {}, "plain.s3.eu-central-1.amazonaws.com"),
    ("eu-central-1", "with.dots", {}, "s3.eu-central-1.amazonaws.com"),
    ("us-gov-west-1", "plain", {"use_fips_endpoint": True}, "plain.s3-fips.us-gov-west-1.amazonaws.com"),
    ("eu-west-1", "plain", {"use_dualstack_endpoint": True}, "plain.s3.dualstack.eu-west-1.amazonaws.com"),
    ("cn-north-1", "plain", {}, "plain.s3.cn-north-1.amazonaws.com.cn"),
])  # fmt: skip
def test_they_go_where_the_client_goes(
    fault_server: FaultServer, region: str, bucket: str, options: dict[str, bool], host: str
) -> None:
    session = botocore.session.get_session()
    client = session.create_client("s3", region_name=region, config=Config(**options))
    reads = SignedReads(session, client, 1.0, 1.0)

    def answered(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, 200, {"content-length": "0"}, _Nothing())

    client.meta.events.register_last("before-send.s3.GetObject", answered)
    client.get_object(Bucket=bucket, Key="a/b c")
    reads.learn("a/b c")
    found = reads._signed["a/b c"]
    path = "/a/b%20c" if host.startswith("plain") else f"/{bucket}/a/b%20c"
    assert found.url == f"https://{host}{path}"
    assert f"/{region}/s3/aws4_request" in found.headers["Authorization"]
    assert "SignedHeaders=host;x-amz-content-sha256;x-amz-date," in found.headers["Authorization"]


class _Nothing:
    def read(self, *_: Any) -> bytes:
        return b""

    def stream(self, *_: Any) -> list[bytes]:
        return []
