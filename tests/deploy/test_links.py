"""Every place that starts Ray gives it the same patience with a network that is cut for a while."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.manifests import ROOT, applied_folders, of_kind, pods, render
from tests.soak_places import program

PATIENCE = {
    "RAY_health_check_timeout_ms": "20000",
    "RAY_grpc_keepalive_timeout_ms": "120000",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "120",
}
RUNS = [folder for folder in applied_folders() if not folder.endswith("platform")]


@pytest.mark.parametrize("folder", RUNS)
def test_pods(folder: str) -> None:
    objects = render(folder)
    maps = {one["metadata"]["name"]: one["data"] for one in of_kind(objects, "ConfigMap")}
    nodes = [pod for pod in pods(objects) if pod.role in ("head", "worker")]
    assert nodes
    for pod in nodes:
        sources = [one["configMapRef"]["name"] for one in pod.spec["containers"][0]["envFrom"] if "configMapRef" in one]
        given = {name: value for source in sources for name, value in maps[source].items()}
        assert given.items() >= PATIENCE.items(), pod.name


@pytest.mark.parametrize(("file", "starts"), [("slurm.sh", 1), ("aws.yaml", 2)])
def test_launch_files(file: str, starts: int) -> None:
    text = (ROOT / "deploy" / file).read_text()
    for name, value in PATIENCE.items():
        assert re.findall(rf"\b{name}=(\d+)", text) == [value] * starts, name


def test_local_cluster(tmp_path: Path) -> None:
    cluster = program().Cluster(tmp_path)
    assert cluster._environment().items() >= PATIENCE.items()


@pytest.mark.parametrize("name", PATIENCE)
def test_this_version_of_ray_knows_the_setting(name: str) -> None:
    ray = pytest.importorskip("ray")
    server = Path(ray.__file__).parent / "core" / "src" / "ray" / "gcs" / "gcs_server"
    # Small settings are read by their bare name behind the prefix, which the compiler may store apart from it.
    assert name.removeprefix("RAY_").encode() + b"\0" in server.read_bytes()
