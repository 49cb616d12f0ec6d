"""KubeRay's operator would admit every manifest; each ported rule bites; the definitions' CEL rules hold."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.deploy.admission import refusals
from tests.deploy.crds import schema, with_defaults
from tests.deploy.manifests import K8S, Object, applied_folders, cluster_spec, of_kind, render


def operator_gates() -> frozenset[str]:
    values = yaml.safe_load((K8S / "operator" / "values.yaml").read_text())
    return frozenset(gate["name"] for gate in values["featureGates"] if gate["enabled"])


@pytest.mark.parametrize("folder", applied_folders())
def test_operator_admits(folder: str) -> None:
    for one in of_kind(render(folder), "RayJob", "RayCluster"):
        assert refusals(one, operator_gates()) == []


def _cluster(**values: Any) -> Callable[[Object], None]:
    return lambda job: cluster_spec(job).update(values)


def _group(**values: Any) -> Callable[[Object], None]:
    return lambda job: cluster_spec(job)["workerGroupSpecs"][0].update(values)


def _job(**values: Any) -> Callable[[Object], None]:
    return lambda job: job["spec"].update(values)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda job: job["metadata"].update(name="x" * 48), "longer"),
        (lambda job: job["metadata"].update(name="1abc"), "DNS-1035"),
        (_job(submissionMode="K8sJobmode"), "submissionMode"),
        (_job(shutdownAfterJobFinishes=False), "ttlSecondsAfterFinished"),
        (_job(shutdownAfterJobFinishes=False, ttlSecondsAfterFinished=0, suspend=True), "suspend"),
        (_job(deletionStrategy={"deletionRules": [{}]}), "deletionRules"),
        (_job(clusterSelector={"ray.io/cluster": "a"}), "clusterSelector"),
        (_job(submissionMode="InteractiveMode"), "InteractiveMode"),
        (_job(submissionMode="SidecarMode"), "SidecarMode"),
        (_job(runtimeEnvYAML="- a"), "runtimeEnvYAML"),
        (_job(activeDeadlineSeconds=0), "activeDeadlineSeconds"),
        (_group(minReplicas=5, maxReplicas=2), "greater"),
        (_group(resources={"CPU": "2"}, rayStartParams={"num-cpus": "2"}), "twice"),
        (_group(rayStartParams={"labels": "a=b"}), "labels"),
        (_group(idleTimeoutSeconds=60), "idleTimeoutSeconds"),
        (_cluster(gcsFaultToleranceOptions={"backend": "rocksdb"}), "GCSFaultToleranceEmbeddedStorage"),
        (_cluster(gcsFaultToleranceOptions={"storage": {}}), "rocksdb"),
        (_cluster(networkPolicy={}), "RayClusterNetworkPolicy"),
        (_cluster(tlsOptions={}), "RayClusterMTLS"),
        (_cluster(rayVersion="2.51.0"), "2.52"),
    ],
)
def test_each_rule_bites(change: Callable[[Object], None], word: str) -> None:
    (job,) = of_kind(render("overlays/laptop/pretrain"), "RayJob")
    change(job)
    assert any(word in refusal for refusal in refusals(job)), refusals(job)


def test_missing_replica_bounds_bite() -> None:
    (job,) = of_kind(render("overlays/laptop/pretrain"), "RayJob")
    del cluster_spec(job)["workerGroupSpecs"][0]["minReplicas"]
    assert any("minReplicas" in refusal for refusal in refusals(job))


def _cel_rules(node: Object, value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    for rule in node.get("x-kubernetes-validations", []):
        if "oldSelf" not in rule["rule"]:
            yield path, rule["rule"], value
    if isinstance(value, dict):
        for name, inner in node.get("properties", {}).items():
            if name in value:
                yield from _cel_rules(inner, value[name], f"{path}.{name}")
    if isinstance(value, list):
        for number, one in enumerate(value):
            yield from _cel_rules(node.get("items", {}), one, f"{path}[{number}]")


def _cel_failures(ray: Object) -> list[str]:
    celpy = pytest.importorskip("celpy", reason="cel-python is not installed")
    environment = celpy.Environment()
    rules = schema(ray["kind"])
    failures = []
    for path, rule, value in _cel_rules(rules, with_defaults(copy.deepcopy(ray), rules)):
        program = environment.program(environment.compile(rule))
        if not program.evaluate({"self": celpy.json_to_cel(value)}):
            failures.append(f"{path}: {rule}")
    return failures


@pytest.mark.parametrize("folder", applied_folders())
def test_cel_rules_hold(folder: str) -> None:
    for one in of_kind(render(folder), "RayJob", "RayCluster"):
        assert _cel_failures(one) == []


def test_a_cel_rule_bites() -> None:
    (job,) = of_kind(render("overlays/laptop/pretrain"), "RayJob")
    job["spec"]["managedBy"] = "somebody-else"
    assert any("managedBy" in failure for failure in _cel_failures(job))
