"""The cluster of processes: its S3 server for real, its bookkeeping, and (marked ray) the whole of it."""

from __future__ import annotations

import importlib.util
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.deploy.manifests import ROOT, of_kind, render
from tests.deploy.test_image import tool

boto3 = pytest.importorskip("boto3")
PROGRAM = ROOT / "deploy" / "local_cluster.py"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("local_cluster", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules["local_cluster"] = made
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def server(program: ModuleType, tmp_path: Path) -> Iterator[object]:
    """A cluster of which the S3 server alone is started."""
    tool("rclone")
    cluster = program.Cluster(tmp_path / "cluster")
    cluster._start_s3()
    yield cluster
    cluster.down()


def client(endpoint: str, access: str, secret: str) -> object:
    return boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=access, aws_secret_access_key=secret, region_name="us-east-1",
        config=boto3.session.Config(
            response_checksum_validation="when_required", request_checksum_calculation="when_required",
            retries={"max_attempts": 1},
        ),
    )


def test_s3_server_keeps_objects_and_refuses_other_keys(server: object) -> None:
    values = server.state.environment()  # type: ignore[attr-defined]
    endpoint = values["AWS_ENDPOINT_URL_S3"]
    good = client(endpoint, values["AWS_ACCESS_KEY_ID"], values["AWS_SECRET_ACCESS_KEY"])
    good.put_object(Bucket="t5", Key="a/b", Body=b"0123456789")  # type: ignore[attr-defined]
    answer = good.get_object(Bucket="t5", Key="a/b", Range="bytes=2-4")  # type: ignore[attr-defined]
    assert answer["Body"].read() == b"234"
    with pytest.raises(Exception, match=r"403|Forbidden|SignatureDoesNotMatch|InvalidAccessKeyId"):
        client(endpoint, values["AWS_ACCESS_KEY_ID"], "wrong").list_objects_v2(Bucket="t5")  # type: ignore[attr-defined]


def test_keys_are_random_and_readable_by_the_owner_alone(program: ModuleType, server: object) -> None:
    folder = server.folder  # type: ignore[attr-defined]
    assert stat.S_IMODE((folder / "state.json").stat().st_mode) == 0o600
    assert program.State.load(folder) == server.state  # type: ignore[attr-defined]
    one, other = program.State.new(), program.State.new()
    assert one.token != other.token
    assert one.secret_key != other.secret_key
    assert one.scratch != other.scratch


def test_a_killed_process_is_seen_and_started_again(program: ModuleType, server: object) -> None:
    first = server.state.processes["s3"]  # type: ignore[attr-defined]
    server.end("s3", signal.SIGKILL)  # type: ignore[attr-defined]
    assert not program.alive(first)
    server._start_s3()  # type: ignore[attr-defined]
    assert program.alive(server.state.processes["s3"])  # type: ignore[attr-defined]


def test_status_and_env_speak_to_a_shell(server: object, tmp_path: Path) -> None:
    run = [sys.executable, str(PROGRAM), "--folder"]
    empty = str(tmp_path / "empty")
    for verb in ("status", "env"):
        assert subprocess.run([*run, empty, verb], check=False).returncode == 1
    folder = str(server.folder)  # type: ignore[attr-defined]
    assert subprocess.run([*run, folder, "status"], check=False).returncode == 0
    done = subprocess.run([*run, folder, "env"], capture_output=True, text=True, check=True)
    assert {line.partition("=")[0] for line in done.stdout.splitlines()} >= {
        "export RAY_AUTH_MODE", "export RAY_API_SERVER_ADDRESS", "export AWS_ENDPOINT_URL_S3"
    }


def test_the_server_of_the_laptop_overlay_starts_as_written(tmp_path: Path) -> None:
    """The container's own command, with what Kubernetes would put into it."""
    (deployment,) = of_kind(render("overlays/laptop/platform"), "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    keys = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "0" * 12}
    (tmp_path / "t5").mkdir()
    words = [tool("rclone"), *container["command"][1:]]
    for name, value in keys.items():
        words = [word.replace(f"$({name})", value) for word in words]
    words = [word.replace("0.0.0.0:9000", "127.0.0.1:0") for word in words]
    words[words.index("/data")] = str(tmp_path)
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    )
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "http://" in line)
        endpoint = "http://" + line.partition("http://")[2].split("/")[0].rstrip("]\n")
        good = client(endpoint, *keys.values())
        good.put_object(Bucket="t5", Key="a", Body=b"x")  # type: ignore[attr-defined]
        assert (tmp_path / "t5" / "a").read_bytes() == b"x"
    finally:
        process.terminate()
        process.wait(timeout=10)
