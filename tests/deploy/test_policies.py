"""Rules that no schema holds: hardening, grace periods, limits, identities, network, and names that must agree."""

from __future__ import annotations

import re

import pytest

from orchestrator.config import Config, load
from tests.deploy.manifests import Pod, applied_folders, cluster_spec, of_kind, pods, quantity, render

ALL = applied_folders()
RUNS = [folder for folder in ALL if not folder.endswith("platform")]


def every_pod(folder: str) -> list[Pod]:
    return list(pods(render(folder)))


@pytest.mark.parametrize("folder", ALL)
def test_pod_security_restricted(folder: str) -> None:
    for pod in every_pod(folder):
        outer = pod.spec["securityContext"]
        assert outer["runAsNonRoot"] is True, pod.name
        assert outer["runAsUser"] >= 1000, pod.name
        assert outer["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec), pod.name
        for container in pod.containers:
            inner = container["securityContext"]
            assert inner["allowPrivilegeEscalation"] is False, pod.name
            assert inner["readOnlyRootFilesystem"] is True, pod.name
            assert inner["capabilities"] == {"drop": ["ALL"]}, pod.name
            assert not any("hostPort" in port for port in container.get("ports", [])), pod.name
        allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret", "projected"}
        for volume in pod.spec.get("volumes", []):
            assert set(volume) - {"name"} <= allowed, f"{pod.name}: {volume}"


@pytest.mark.parametrize("folder", RUNS)
def test_autoscaler_container_is_hardened(folder: str) -> None:
    for ray in of_kind(render(folder), "RayJob", "RayCluster"):
        spec = cluster_spec(ray)
        if spec.get("enableInTreeAutoscaling"):
            options = spec["autoscalerOptions"]
            assert options["version"] == "v2"
            assert options["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert options["resources"]["limits"].keys() >= {"cpu", "memory"}
            assert "kueue.x-k8s.io/queue-name" not in ray["metadata"]["labels"]


@pytest.mark.parametrize("folder", ALL)
def test_limits_and_images(folder: str) -> None:
    for pod in every_pod(folder):
        for container in pod.containers:
            limits, requests = container["resources"]["limits"], container["resources"]["requests"]
            assert limits.keys() >= {"cpu", "memory", "ephemeral-storage"}, pod.name
            for name, value in requests.items():
                assert quantity(value) <= quantity(limits[name]), f"{pod.name}: {name}"
            if pod.role in ("head", "worker"):
                assert requests["memory"] == limits["memory"], f"{pod.name}: memory would be reclaimed under pressure"
            image = container["image"]
            assert re.search(r"(@sha256:[0-9a-f]{64}|:[^/:]+)$", image), f"{pod.name}: {image}"
            assert not image.endswith(":latest"), pod.name


@pytest.mark.parametrize("folder", RUNS)
def test_grace_is_longer_than_what_must_fit_into_it(folder: str) -> None:
    for pod in every_pod(folder):
        if pod.role == "submitter":
            continue
        drain = float(pod.environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        hook = pod.spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        wait = float(hook[hook.index("--seconds") + 1])
        assert wait + drain < pod.spec["terminationGracePeriodSeconds"], pod.name
        if "karpenter.sh/capacity-type" in pod.spec.get("nodeSelector", {}) and pod.role == "worker":
            assert pod.spec["terminationGracePeriodSeconds"] <= 120, f"{pod.name}: spot capacity gives 120 s of notice"
        if pod.role == "head":
            stop = float(pod.environment["RAY_JOB_STOP_WAIT_TIME_S"])
            assert stop < pod.spec["terminationGracePeriodSeconds"], pod.name


@pytest.mark.parametrize("folder", RUNS)
def test_shared_memory_holds_the_object_store(folder: str) -> None:
    for ray in of_kind(render(folder), "RayJob", "RayCluster"):
        spec = cluster_spec(ray)
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            template = group["template"]["spec"]
            mounts = {mount["mountPath"]: mount["name"] for mount in template["containers"][0]["volumeMounts"]}
            volumes = {volume["name"]: volume for volume in template["volumes"]}
            assert set(mounts.values()) <= set(volumes)
            shared = volumes[mounts["/dev/shm"]]["emptyDir"]
            assert shared["medium"] == "Memory"
            store = float(group["rayStartParams"]["object-store-memory"])
            limits = template["containers"][0]["resources"]["limits"]
            assert store < quantity(shared["sizeLimit"]) < quantity(limits["memory"]) / 2
            scratch = volumes[mounts["/tmp"]]["emptyDir"]
            assert quantity(scratch["sizeLimit"]) <= quantity(limits["ephemeral-storage"])


@pytest.mark.parametrize("folder", RUNS)
def test_head_trains_nothing_and_is_not_on_spot(folder: str) -> None:
    for ray in of_kind(render(folder), "RayJob", "RayCluster"):
        head = cluster_spec(ray)["headGroupSpec"]
        assert head["rayStartParams"]["num-cpus"] == "0"
        assert "nvidia.com/gpu" not in head["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert head["template"]["spec"].get("nodeSelector", {}).get("karpenter.sh/capacity-type") != "spot"


@pytest.mark.parametrize("folder", RUNS)
def test_authentication_and_identities(folder: str) -> None:
    accounts = {"t5-head", "t5-worker", "t5-submitter"}
    for ray in of_kind(render(folder), "RayJob", "RayCluster"):
        assert cluster_spec(ray)["authOptions"] == {"mode": "token"}
    for pod in every_pod(folder):
        assert pod.spec["serviceAccountName"] in accounts
        if pod.role != "head":
            assert pod.spec["automountServiceAccountToken"] is False, pod.name
        # Variables of services named t5-... would be read as settings of the program.
        assert pod.spec["enableServiceLinks"] is False, pod.name


@pytest.mark.parametrize("folder", RUNS)
def test_jobs_retry_and_leave_no_cluster_behind(folder: str) -> None:
    for job in of_kind(render(folder), "RayJob"):
        spec = job["spec"]
        assert spec["backoffLimit"] >= 3
        assert spec["submitterConfig"]["backoffLimit"] >= 3
        assert "activeDeadlineSeconds" not in spec
        assert spec["shutdownAfterJobFinishes"] is True
        assert "/opt/t5/bin/job.py" in spec["entrypoint"]


@pytest.mark.parametrize("folder", RUNS)
def test_config_maps_that_are_named_exist(folder: str) -> None:
    objects = render(folder)
    made = {one["metadata"]["name"] for one in of_kind(objects, "ConfigMap")}
    for pod in every_pod(folder):
        named = {one["configMap"]["name"] for one in pod.spec.get("volumes", []) if "configMap" in one}
        sources = pod.spec["containers"][0].get("envFrom", [])
        named |= {one["configMapRef"]["name"] for one in sources if "configMapRef" in one}
        assert named <= made, pod.name


@pytest.mark.parametrize("folder", [folder for folder in ALL if folder.endswith("platform")])
def test_platform(folder: str) -> None:
    objects = render(folder)
    (namespace,) = of_kind(objects, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(objects, "NetworkPolicy")}
    assert policies["t5-default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, policy in policies.items():
        for rule in policy.get("ingress", []):
            assert rule.get("from"), f"{name} lets everybody in"
    for rule in [rule for policy in policies.values() for rule in policy.get("egress", [])]:
        for block in [one["ipBlock"] for one in rule["to"] if "ipBlock" in one]:
            assert block["except"] == ["169.254.0.0/16"], "the node's own credentials stay out of reach"
    for account in of_kind(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert of_kind(objects, "PodDisruptionBudget")
    assert not of_kind(objects, "Secret", "Ingress")
    assert all(one["spec"].get("type", "ClusterIP") == "ClusterIP" for one in of_kind(objects, "Service"))


@pytest.mark.parametrize("folder", ALL)
def test_pods_are_those_the_network_policies_and_budget_select(folder: str) -> None:
    for pod in every_pod(folder):
        labels = pod.metadata["labels"]
        assert labels["app.kubernetes.io/part-of"] == "t5", pod.name
        component = {"server": "s3"}.get(pod.role, pod.role)
        assert labels["app.kubernetes.io/component"] == component, pod.name


def test_priority_classes_that_are_named_exist() -> None:
    made = {one["metadata"]["name"] for one in of_kind(render("base/platform"), "PriorityClass")}
    named = {pod.spec["priorityClassName"] for folder in RUNS for pod in every_pod(folder) if pod.role != "submitter"}
    assert named == made


@pytest.mark.parametrize("folder", RUNS)
def test_settings_in_the_environment_are_settings_of_the_program(folder: str) -> None:
    for one in of_kind(render(folder), "ConfigMap"):
        if one["metadata"]["name"].startswith("t5-environment"):
            settings = {name: value for name, value in one["data"].items() if name.startswith("T5_")}
            assert load(["embedded"], environment=settings).log.format == "json"
            known = {f"T5_{key}".upper() for key in Config.model_fields}
            assert {name.partition("__")[0] for name in settings} <= known
