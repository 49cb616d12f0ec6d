"""Components in combinations that no overlay shows still make valid manifests, and none holds a secret."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.admission import refusals
from tests.deploy.crds import problems
from tests.deploy.manifests import K8S, ROOT, Object, cluster_spec, pods, quantity
from tests.deploy.test_admission import operator_gates
from tests.deploy.test_image import tool

COMBINATIONS = [
    ("pretrain", "gpu"),
    ("pretrain", "gpu", "infiniband", "kueue"),
    ("pretrain", "gpu", "whole-nodes", "efa", "head-recovery"),
    ("pretrain", "gpu", "spot"),
    ("experiment", "gpu", "spot", "autoscaling"),
    ("evaluate", "gpu", "autoscaling"),
    ("prepare", "autoscaling"),
]


def build(folder: Path, job: str, *components: str) -> list[Object]:
    """A kustomization of a job and components, made for the test."""
    base = Path(os.path.relpath(K8S, folder))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": "t5",
        "resources": [str(base / "jobs" / job)], "components": [str(base / "components" / one) for one in components],
        "images": [{"name": "t5-orchestrator", "newName": "registry.example.com/t5", "newTag": "1"}],
        "configMapGenerator": [{"name": "t5-run", "literals": ["run.yaml=run: x"]}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    command = [tool("kubectl"), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.mark.parametrize("combination", COMBINATIONS, ids="+".join)
def test_combination(combination: tuple[str, ...], tmp_path: Path) -> None:
    objects = build(tmp_path.resolve(), *combination)
    (ray,) = [one for one in objects if one["kind"] == "RayJob"]
    assert problems(ray) == []
    assert refusals(ray, operator_gates()) == []
    for pod in pods(objects):
        resources = pod.spec["containers"][0]["resources"]
        for name in resources["limits"].keys() - {"cpu", "memory", "ephemeral-storage"}:
            # Extended resources and huge pages cannot be overcommitted.
            assert quantity(resources["requests"][name]) == quantity(resources["limits"][name])


def test_head_recovery_moves_the_driver_off_the_head(tmp_path: Path) -> None:
    objects = build(tmp_path.resolve(), "pretrain", "gpu", "head-recovery")
    (ray,) = [one for one in objects if one["kind"] == "RayJob"]
    assert ray["spec"]["entrypointNumCpus"] >= 1
    assert cluster_spec(ray)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for pod in pods(objects):
        if pod.role == "worker":
            assert "prestop.py" in " ".join(pod.spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"])


_SECRETS = re.compile(
    r"AKIA[0-9A-Z]{16}|ASIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|gh[pousr]_[A-Za-z0-9]{30}|xox[bap]-"
    r"|(?i:(?:secret|password|token)[a-z_]*\s*[:=]\s*[\"']?[A-Za-z0-9+/]{20,})"
)


@pytest.mark.parametrize("folder", ["k8s", "deploy", "docs"])
def test_no_secret_anywhere(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file() and path.suffix in {".yaml", ".env", ".md", ".sh", ".py", ".json", ""}:
            found = _SECRETS.search(path.read_text())
            assert found is None, f"{path}: {found}"


def test_no_manifest_makes_a_secret() -> None:
    for path in sorted(K8S.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if isinstance(document, dict):
                assert document.get("kind") != "Secret", path
                assert "secretGenerator" not in document, path


@pytest.mark.parametrize("text", ["AKIA" + "A" * 16, "secret_key: " + "a" * 24, "token=" + "0" * 32])
def test_a_secret_would_be_found(text: str) -> None:
    assert _SECRETS.search(text)
