"""KubeRay's admission rules that stand in the operator, not in its definitions: those these manifests can break."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from tests.deploy.manifests import Object, cluster_spec

_LABEL = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
_SIZES = ("num-cpus", "num-gpus", "memory", "resources")
_MODES = {"K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"}


def refusals(ray: Object, gates: frozenset[str] = frozenset()) -> list[str]:
    """Why the operator would put `ray` into ValidationFailed; `gates` are its feature gates that are on."""
    found = [*_name(ray), *_cluster(cluster_spec(ray), gates)]
    if ray["kind"] == "RayJob":
        found += _job(ray["spec"])
    return found


def _name(ray: Object) -> Iterator[str]:
    name = ray["metadata"]["name"]
    longest = 47 if ray["kind"] == "RayJob" else 53
    if len(name) > longest:
        yield f"name {name} is longer than {longest}"
    if not _LABEL.match(name):
        yield f"name {name} is not a DNS-1035 label"


def _job(spec: Object) -> Iterator[str]:
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode not in _MODES:
        yield f"submissionMode {mode} is unknown"
    shutdown = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("suspend") and not shutdown:
        yield "suspend needs shutdownAfterJobFinishes"
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not shutdown:
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes"
    if spec.get("deletionStrategy", {}).get("deletionRules") and shutdown:
        yield "deletionRules and shutdownAfterJobFinishes exclude each other"
    if spec.get("clusterSelector") and spec.get("backoffLimit", 0) > 0:
        yield "backoffLimit and clusterSelector exclude each other"
    if mode == "InteractiveMode" and spec.get("backoffLimit", 0) > 0:
        yield "backoffLimit and InteractiveMode exclude each other"
    if mode == "SidecarMode" and ("submitterPodTemplate" in spec or "submitterConfig" in spec):
        yield "SidecarMode takes neither submitterPodTemplate nor submitterConfig"
    if not isinstance(yaml.safe_load(spec.get("runtimeEnvYAML", "{}")), dict):
        yield "runtimeEnvYAML is not a mapping"
    for key in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if key in spec and spec[key] <= 0:
            yield f"{key} must be positive"


def _cluster(spec: Object, gates: frozenset[str]) -> Iterator[str]:
    autoscaling = spec.get("enableInTreeAutoscaling", False)
    head = spec["headGroupSpec"]
    for name, group in [("head", head), *((one["groupName"], one) for one in spec["workerGroupSpecs"])]:
        if not group["template"]["spec"].get("containers"):
            yield f"{name}: no container"
        parameters = group.get("rayStartParams", {})
        if group.get("resources") and any(key in parameters for key in _SIZES):
            yield f"{name}: resources stand twice"
        if "labels" in parameters:
            yield f"{name}: labels belong into the group's field labels"
        if autoscaling and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield f"{name}: restartPolicy must be Never with the autoscaler"
    for group in spec["workerGroupSpecs"]:
        if not autoscaling and ("minReplicas" not in group or "maxReplicas" not in group):
            yield f"{group['groupName']}: minReplicas and maxReplicas are both needed without autoscaling"
        if group.get("minReplicas", 0) > group.get("maxReplicas", 2**31):
            yield f"{group['groupName']}: minReplicas is greater than maxReplicas"
        if "idleTimeoutSeconds" in group and not autoscaling:
            yield f"{group['groupName']}: idleTimeoutSeconds needs the autoscaler"
    names = [one["name"] for one in head["template"]["spec"]["containers"][0].get("env", [])]
    if "RAY_REDIS_ADDRESS" in names or "REDIS_PASSWORD" in names:
        yield "head: Redis is set by gcsFaultToleranceOptions alone"
    recovery = spec.get("gcsFaultToleranceOptions", {})
    if recovery.get("backend") == "rocksdb" and "GCSFaultToleranceEmbeddedStorage" not in gates:
        yield "backend rocksdb needs the gate GCSFaultToleranceEmbeddedStorage"
    if recovery.get("backend", "redis") == "redis" and "storage" in recovery:
        yield "gcsFaultToleranceOptions.storage needs the backend rocksdb"
    if "networkPolicy" in spec and "RayClusterNetworkPolicy" not in gates:
        yield "networkPolicy needs the gate RayClusterNetworkPolicy"
    if "tlsOptions" in spec and "RayClusterMTLS" not in gates:
        yield "tlsOptions needs the gate RayClusterMTLS"
    if spec.get("authOptions", {}).get("mode") == "token":
        version = tuple(int(part) for part in spec.get("rayVersion", "0").split("."))
        if version < (2, 52):
            yield f"token authentication needs rayVersion 2.52, not {spec.get('rayVersion')}"
