"""Rendered manifests for the tests of k8s/: what kustomize makes of each overlay, and the pods in it."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
Object = dict[str, Any]


def applied_folders() -> list[str]:
    """Overlay folders that a user applies, as paths under k8s/."""
    found = []
    for path in sorted(K8S.glob("overlays/*/*/kustomization.yaml")):
        if yaml.safe_load(path.read_text())["kind"] == "Kustomization":
            found.append(str(path.parent.relative_to(K8S)))
    return found


@functools.cache
def _text(folder: str) -> str:
    tool = shutil.which("kubectl")
    command = [tool, "kustomize"] if tool else [shutil.which("kustomize") or "", "build"]
    if not command[0]:
        pytest.skip("neither kubectl nor kustomize is on PATH")
    done = subprocess.run([*command, str(K8S / folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{folder}: {done.stderr}"
    return done.stdout


def render(folder: str) -> list[Object]:
    """All objects of one folder; fresh copies."""
    return [document for document in yaml.safe_load_all(_text(folder)) if document]


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """Those of the given kinds."""
    return [one for one in objects if one["kind"] in kinds]


def cluster_spec(ray: Object) -> Object:
    """The RayClusterSpec of a RayCluster or RayJob."""
    spec: Object = ray["spec"] if ray["kind"] == "RayCluster" else ray["spec"]["rayClusterSpec"]
    return spec


@dataclass(frozen=True)
class Pod:
    """One pod template: where it stands, what it is for, its metadata and spec."""

    name: str
    role: str
    metadata: Object
    spec: Object

    @property
    def containers(self) -> list[Object]:
        """Containers and init containers."""
        return [*self.spec["containers"], *self.spec.get("initContainers", [])]

    @property
    def environment(self) -> dict[str, str]:
        """Plain variables of the first container."""
        return {one["name"]: one["value"] for one in self.spec["containers"][0].get("env", []) if "value" in one}


def pods(objects: list[Object]) -> Iterator[Pod]:
    """Every pod template in `objects`."""
    for one in objects:
        name = f"{one['kind']}/{one['metadata']['name']}"
        if one["kind"] in ("RayJob", "RayCluster"):
            spec = cluster_spec(one)
            head = spec["headGroupSpec"]["template"]
            yield Pod(f"{name} head", "head", head["metadata"], head["spec"])
            for group in spec["workerGroupSpecs"]:
                template = group["template"]
                yield Pod(f"{name} {group['groupName']}", "worker", template["metadata"], template["spec"])
            if "submitterPodTemplate" in one["spec"]:
                template = one["spec"]["submitterPodTemplate"]
                yield Pod(f"{name} submitter", "submitter", template["metadata"], template["spec"])
        elif one["kind"] == "Deployment":
            yield Pod(name, "server", one["spec"]["template"]["metadata"], one["spec"]["template"]["spec"])


_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def quantity(value: str | int | float) -> float:
    """A Kubernetes quantity as a number."""
    text = str(value)
    number = text.rstrip("mkMGTi")
    return float(number) * _UNITS[text[len(number):]]
