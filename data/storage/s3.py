"""Storage in an S3 bucket: reads that go on where a broken body stopped, conditional writes, bounded retries."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import os
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import botocore.session
import urllib3.exceptions
from botocore.config import Config

from data.errors import UserError
from data.storage.base import Changed, Missing, Stat, Unavailable, checked_path
from data.storage.signed import SignedReads

CHUNK = 256 << 10
_SESSION_LOCK = threading.Lock()
BROKEN_BODY = (
    botocore.exceptions.IncompleteReadError,
    botocore.exceptions.ResponseStreamingError,
    botocore.exceptions.ReadTimeoutError,
    botocore.exceptions.HTTPClientError,
    urllib3.exceptions.HTTPError,
    ConnectionError,
    TimeoutError,
)


@dataclass(frozen=True)
class Retry:
    """How long to insist: attempts in a row without progress, and waiting between them in seconds.

    The wait before attempt k is uniform in [0, min(cap, base * 2^k)] ("full jitter"); `budget` bounds the
    sum of the waits of one call; connect and read are the timeouts of one request.
    """

    attempts: int = 10
    base: float = 0.2
    cap: float = 20.0
    budget: float = 180.0
    connect: float = 10.0
    read: float = 30.0


class S3Storage:
    """A prefix of a bucket. Credentials come from boto3's standard chain, never from a URL or a setting."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        retry: Retry | None = None,
    ) -> None:
        self.bucket, self.prefix = bucket, prefix.strip("/")
        self.endpoint, self.region = endpoint, region
        self.retry = retry or Retry()
        self.resumed_reads = 0
        query = "&".join(f"{k}={v}" for k, v in (("endpoint", endpoint), ("region", region)) if v)
        self.url = f"s3://{bucket}/{self.prefix}".rstrip("/") + (f"?{query}" if query else "")
        self._connection: tuple[int, Any, SignedReads] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"S3Storage({self.url!r})"

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        del state["_connection"], state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _connection=None, _lock=threading.Lock())

    @property
    def client(self) -> Any:
        """The boto3 client of this process; made at first use, since it must not cross a fork or a pickle."""
        return self._connected()[0]

    def _connected(self) -> tuple[Any, SignedReads]:
        with self._lock:
            if self._connection is None or self._connection[0] != os.getpid():
                self._connection = (os.getpid(), *self._connect())
            return self._connection[1:]

    def read(self, path: str, *, start: int = 0, length: int | None = None, etag: str | None = None) -> bytes:
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"start {start} and length {length} must not be negative")
        if length == 0:
            return b""
        waits, body = _Waits(self.retry), _Body(start, None if length is None else start + length, etag)
        while True:
            try:
                self._receive(path, body, waits)
                return body.joined()
            except UserError:
                raise
            except BROKEN_BODY as error:
                self.resumed_reads += 1
                waits.wait(f"reading {self._name(path)} from byte {body.position}", error)

    def write(self, path: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        key, waits = self._key(path), _Waits(self.retry)
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        condition: dict[str, str] = {}
        if if_absent:
            condition["IfNoneMatch"] = "*"
        elif if_match == "":
            raise UserError(f"the server of {self._name(path)} gives no ETags, which conditional writes need")
        elif if_match is not None:
            condition["IfMatch"] = f'"{if_match}"'
        if condition:
            # A server that ignores conditions is at least refused what can be seen beforehand.
            self._check_before(path, if_match)
        while True:
            try:
                # The server compares the sum, so what was damaged on the way is not stored.
                answer = self.client.put_object(
                    Bucket=self.bucket, Key=key, Body=data, ContentMD5=base64.b64encode(digest).decode(), **condition
                )
                return _tag(answer.get("ETag"))
            except botocore.exceptions.ClientError as error:
                status = _status(error)
                if condition and status == 409:
                    waits.wait(f"writing {self._name(path)}", error)
                elif condition and status in (404, 412):
                    return self._after_refusal(path, data, error)
                else:
                    raise self._explained(path, error) from error
            except botocore.exceptions.BotoCoreError as error:
                raise self._unreachable(path, error) from error

    def upload(self, path: str, local: Path) -> None:
        try:
            self.client.upload_file(str(local), self.bucket, self._key(path))
        except boto3.exceptions.S3UploadFailedError as error:
            raise Unavailable(f"uploading {self._name(path)} failed: {error}") from error
        except botocore.exceptions.ClientError as error:
            raise self._explained(path, error) from error
        except botocore.exceptions.BotoCoreError as error:
            raise self._unreachable(path, error) from error

    def stat(self, path: str) -> Stat:
        try:
            answer = self.client.head_object(Bucket=self.bucket, Key=self._key(path))
        except botocore.exceptions.ClientError as error:
            raise self._explained(path, error) from error
        except botocore.exceptions.BotoCoreError as error:
            raise self._unreachable(path, error) from error
        return Stat(int(answer["ContentLength"]), _tag(answer.get("ETag")))

    def stats(self, prefix: str = "") -> dict[str, Stat]:
        root = f"{self.prefix}/" if self.prefix else ""
        found = {}
        try:
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=root + prefix)
            for page in pages:
                for item in page.get("Contents", ()):
                    found[str(item["Key"])[len(root) :]] = Stat(int(item["Size"]), _tag(item.get("ETag")))
        except botocore.exceptions.ClientError as error:
            raise self._explained(prefix, error) from error
        except botocore.exceptions.BotoCoreError as error:
            raise self._unreachable(prefix, error) from error
        return dict(sorted(found.items()))

    def list(self, prefix: str = "") -> list[str]:
        return list(self.stats(prefix))

    def delete(self, path: str) -> None:
        try:
            self.client.delete_object(Bucket=self.bucket, Key=self._key(path))
        except botocore.exceptions.ClientError as error:
            if _code(error) != "NoSuchKey":
                raise self._explained(path, error) from error
        except botocore.exceptions.BotoCoreError as error:
            raise self._unreachable(path, error) from error

    def _receive(self, path: str, body: _Body, waits: _Waits) -> None:
        """One request for what is still missing; what arrives stays in `body` even where the answer breaks off."""
        ranged = body.end is not None or body.position > 0
        answer = self._answer(path, body, ranged)
        if answer is None:
            return
        with contextlib.closing(answer.stream) as stream:
            # Some servers ignore If-Match on reads.
            if body.etag not in (None, answer.tag):
                raise Changed(f"{self._name(path)} was replaced while in use: tag {answer.tag}, expected {body.etag}")
            body.etag = answer.tag
            if ranged and not answer.range.startswith(f"bytes {body.position}-"):
                raise UserError(f"the server of {self._name(path)} ignores ranged reads: use one that serves them")
            left = answer.length
            while left:
                chunk = stream.read(min(CHUNK, left))
                if not chunk:
                    raise ConnectionError(f"the body ended {left} bytes early")
                body.add(chunk)
                left -= len(chunk)
                waits.progress()

    def _answer(self, path: str, body: _Body, ranged: bool) -> _Answer | None:
        """The head of the answer to a request for what is missing; None where nothing is."""
        key, headers = self._key(path), dict[str, str]()
        if ranged:
            headers["Range"] = f"bytes={body.position}-" + ("" if body.end is None else str(body.end - 1))
        if body.etag:
            headers["If-Match"] = f'"{body.etag}"'
        client, signed = self._connected()
        found = signed.get(key, headers)
        if found is not None:
            return _Answer.of(found.headers, found.raw)
        request = {name.replace("-", ""): value for name, value in headers.items()}
        try:
            answer = client.get_object(Bucket=self.bucket, Key=key, **request)
        except botocore.exceptions.ClientError as error:
            if _status(error) == 416:
                return None
            if _status(error) == 412:
                raise Changed(f"{self._name(path)} was replaced while in use: expected tag {body.etag}") from None
            raise self._explained(path, error) from error
        except botocore.exceptions.BotoCoreError as error:
            raise self._unreachable(path, error) from error
        signed.learn(key)
        return _Answer.of(answer["ResponseMetadata"]["HTTPHeaders"], answer["Body"])

    def _check_before(self, path: str, if_match: str | None) -> None:
        try:
            found = self.stat(path).etag
        except Missing:
            if if_match is None:
                return
            raise Changed(f"{self._name(path)} is gone, expected tag {if_match}") from None
        if if_match is None:
            raise Changed(f"{self._name(path)} exists already")
        if found != if_match:
            raise Changed(f"{self._name(path)} was replaced: tag {found}, expected {if_match}")

    def _after_refusal(self, path: str, data: bytes, error: botocore.exceptions.ClientError) -> str:
        """A condition failed. Where the request was sent again, its first sending may be what it met: look."""
        if error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0):
            found = self.stat(path)
            if found.size == len(data) and self.read(path, etag=found.etag) == data:
                return found.etag
        raise Changed(f"{self._name(path)} was written by another meanwhile") from None

    def _connect(self) -> tuple[Any, SignedReads]:
        endpoint = self.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        with _SESSION_LOCK:
            core, session = _session(os.getpid())
            client = session.client(
                "s3",
                endpoint_url=endpoint,
                region_name=self.region or session.region_name or "us-east-1",
                config=Config(
                    retries={"mode": "standard", "total_max_attempts": self.retry.attempts},
                    connect_timeout=self.retry.connect,
                    read_timeout=self.retry.read,
                    max_pool_connections=32,
                    tcp_keepalive=True,
                    s3={"addressing_style": "path" if endpoint else "auto"},
                    # Ranged answers may carry the checksum of the whole object, which a part cannot match.
                    response_checksum_validation="when_required",
                    request_checksum_calculation="when_required",
                ),
            )
            return client, SignedReads(core, client, self.retry.connect, self.retry.read)

    def _key(self, path: str) -> str:
        checked_path(path)
        return f"{self.prefix}/{path}" if self.prefix else path

    def _name(self, path: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}/{path}" if self.prefix else f"s3://{self.bucket}/{path}"

    def _explained(self, path: str, error: botocore.exceptions.ClientError) -> UserError:
        name, status, code = self._name(path), _status(error), _code(error)
        if code == "NoSuchBucket":
            return Missing(f"bucket {self.bucket!r} does not exist: create it or mend the URL")
        if status == 404:
            return Missing(f"{name} does not exist")
        if code == "RequestTimeTooSkewed":
            return UserError(f"{name} was refused because this machine's clock is wrong: set it by NTP")
        if status in (401, 403):
            return UserError(f"{name} was refused ({code}): check the credentials and the bucket's policy")
        if status == 501:
            return UserError(f"the server of {name} does not implement this request ({code}): use one that does")
        return Unavailable(f"{name} failed with {status} {code} after {self.retry.attempts} attempts")

    def _unreachable(self, path: str, error: botocore.exceptions.BotoCoreError) -> UserError:
        if isinstance(error, botocore.exceptions.NoCredentialsError | botocore.exceptions.PartialCredentialsError):
            return UserError(
                f"no credentials were found for {self._name(path)}: set AWS_PROFILE, the standard AWS variables "
                "or a role of the machine"
            )
        return Unavailable(f"{self._name(path)} could not be reached: {error}")


@dataclass(frozen=True)
class _Answer:
    """The head of an answer to a read, and its body: the object's tag, the range it says to send, its bytes."""

    tag: str
    range: str
    length: int
    stream: Any

    @staticmethod
    def of(headers: Any, stream: Any) -> _Answer:
        found = headers.get("content-range", "")
        return _Answer(_tag(headers.get("etag")), found, int(headers["content-length"]), stream)


class _Body:
    """What has arrived of one read: the next byte wanted, the byte after the last one, the object's tag."""

    def __init__(self, start: int, end: int | None, etag: str | None) -> None:
        self.position, self.end, self.etag = start, end, etag
        self._parts: list[bytes] = []

    def add(self, chunk: bytes) -> None:
        self._parts.append(chunk)
        self.position += len(chunk)

    def joined(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


class _Waits:
    """The waits of one call: counts attempts in a row without progress and the time spent waiting."""

    def __init__(self, retry: Retry) -> None:
        self._retry, self._failures, self._waited = retry, 0, 0.0

    def progress(self) -> None:
        self._failures = 0

    def wait(self, doing: str, error: Exception) -> None:
        self._failures += 1
        pause = random.uniform(0, min(self._retry.cap, self._retry.base * 2**self._failures))
        if self._failures >= self._retry.attempts or self._waited + pause > self._retry.budget:
            raise Unavailable(
                f"{doing} failed {self._failures} times in a row, {self._waited:.0f} s waited: {error}"
            ) from error
        self._waited += pause
        time.sleep(pause)


@functools.cache
def _session(process: int) -> tuple[Any, Any]:
    """One session a process, as botocore's and boto3's: credentials are fetched once, further clients cost little."""
    session = botocore.session.get_session()
    # Parsing the times of answers, which nobody here reads, costs a fifth of a ranged read's processor time.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    return session, boto3.session.Session(botocore_session=session)


def _tag(given: str | None) -> str:
    """The tag without quotes, which some servers leave out in listings; empty where a server gives none."""
    return (given or "").removeprefix("W/").strip('"')


def _code(error: botocore.exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: botocore.exceptions.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
