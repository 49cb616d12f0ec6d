"""Strict validation against a CustomResourceDefinition as the API server does it: defaults, then no unknown field."""

from __future__ import annotations

import copy
import functools
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.manifests import ROOT, Object

FOLDER = Path(os.environ.get("T5_KUBERAY_CRDS", ROOT.parent / "shared" / "schemas"))


@functools.cache
def schema(kind: str) -> Object:
    """The open API schema of a Ray kind, v1; skips where the definitions are not at hand."""
    path = FOLDER / f"ray.io_{kind.lower()}s.yaml"
    if not path.exists():
        pytest.skip(f"KubeRay's definitions are not in {FOLDER}; set T5_KUBERAY_CRDS to their folder")
    definition = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
    (version,) = [one for one in definition["spec"]["versions"] if one["name"] == "v1"]
    return _closed(version["schema"]["openAPIV3Schema"])


def _closed(node: Any) -> Any:
    """The schema with unknown properties refused and Kubernetes' own extensions spelt as JSON schema."""
    if isinstance(node, list):
        return [_closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {key: value for key, value in node.items() if key not in ("properties", "items", "format")}
    if node.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "properties" in node:
        made["properties"] = {name: _closed(one) for name, one in node["properties"].items()}
        if "additionalProperties" not in node and not node.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    elif isinstance(node.get("additionalProperties"), dict):
        made["additionalProperties"] = _closed(node["additionalProperties"])
    if "items" in node:
        made["items"] = _closed(node["items"])
    return made


def with_defaults(value: Any, node: Object) -> Any:
    """`value` with the schema's defaults filled in, as the API server does before it validates."""
    if isinstance(value, dict):
        for name, inner in node.get("properties", {}).items():
            if name not in value and "default" in inner:
                value[name] = copy.deepcopy(inner["default"])
            if name in value:
                value[name] = with_defaults(value[name], inner)
        extra = node.get("additionalProperties")
        if isinstance(extra, dict):
            return {name: with_defaults(one, extra) for name, one in value.items()}
    if isinstance(value, list) and "items" in node:
        return [with_defaults(one, node["items"]) for one in value]
    return value


def problems(ray: Object) -> list[str]:
    """What the API server would refuse in a RayJob or RayCluster; metadata is checked with the core kinds."""
    rules = schema(ray["kind"])
    value = with_defaults(copy.deepcopy(ray), rules)
    body = {**rules, "properties": {**rules["properties"], "metadata": {"type": "object"}}}
    validator = jsonschema.Draft202012Validator(body)
    errors = validator.iter_errors(value)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in errors]
