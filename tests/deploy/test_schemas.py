"""Every rendered manifest is what the Kubernetes API and KubeRay's definitions accept, unknown fields refused."""

from __future__ import annotations

import copy

import kubernetes_validate
import pytest

from tests.deploy.crds import problems
from tests.deploy.manifests import applied_folders, cluster_spec, of_kind, pods, render

KUBERNETES = "1.32"
CORE = {"v1", "apps/v1", "policy/v1", "networking.k8s.io/v1", "scheduling.k8s.io/v1"}
FOREIGN = {"ray.io/v1", "monitoring.coreos.com/v1", "kueue.x-k8s.io/v1beta2"}


@pytest.mark.parametrize("folder", applied_folders())
def test_core_kinds(folder: str) -> None:
    for one in render(folder):
        if one["apiVersion"] in CORE:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
        else:
            assert one["apiVersion"] in FOREIGN, one["apiVersion"]


@pytest.mark.parametrize("folder", applied_folders())
def test_ray_kinds(folder: str) -> None:
    for one in of_kind(render(folder), "RayJob", "RayCluster"):
        assert problems(one) == []


@pytest.mark.parametrize("folder", applied_folders())
def test_pods_are_also_valid_as_pods(folder: str) -> None:
    """KubeRay's definition accepts what only the pod's own schema refuses."""
    for pod in pods(render(folder)):
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", **pod.metadata}, "spec": pod.spec}
        kubernetes_validate.validate(body, KUBERNETES, strict=True)


def test_a_misspelt_field_is_caught() -> None:
    (job,) = of_kind(render("overlays/laptop/pretrain"), "RayJob")
    wrong = copy.deepcopy(job)
    cluster_spec(wrong)["headGroupSpec"]["template"]["spec"]["terminationGracePeriodSecond"] = 1
    assert "terminationGracePeriodSecond" in str(problems(wrong))
    wrong = copy.deepcopy(job)
    cluster_spec(wrong)["workerGroupSpecs"][0]["rayStartParams"]["num-cpus"] = 2
    assert "rayStartParams.num-cpus" in str(problems(wrong))
