"""Reads a configuration: preset or file, then `key.sub=value` overrides; refuses what does not fit, by name."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from data.errors import UserError
from orchestrator.config.schema import Config

_SECRET_WORDS = ("secret", "password", "token", "access_key", "credential")


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that also refuses a key given twice (YAML itself lets the last one win in silence)."""


def _unique_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise UserError(f"key {key!r} stands twice (line {key_node.start_mark.line + 1}); remove one")
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def read_yaml(text: str, name: str) -> dict[str, Any]:
    """Parse `text` as one YAML mapping; `name` is what errors call it."""
    try:
        value = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not YAML: {error}") from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{name} must be a mapping of keys to values, not {type(value).__name__}")
    return value


def presets() -> list[str]:
    """Names of the presets in the package."""
    folder = resources.files("orchestrator.config") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _file_values(source: str) -> dict[str, Any]:
    if source in presets():
        text = (resources.files("orchestrator.config") / "presets" / f"{source}.yaml").read_text()
        return read_yaml(text, f"preset {source}")
    path = Path(source)
    if not path.exists():
        near = difflib.get_close_matches(source, presets(), n=1)
        hint = f"; did you mean the preset {near[0]!r}?" if near else f"; presets: {', '.join(presets())}"
        raise UserError(f"--config {source}: no such file or preset{hint}")
    return read_yaml(path.read_text(), str(path))


def merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, section by section; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return merged


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"{text!r} is not an override; write key=value, for example steps=1000")
    try:
        parsed: Any = yaml.safe_load(value) if value else None
    except yaml.YAMLError:
        parsed = value
    for part in reversed(key.split(".")):
        parsed = {part: parsed}
    return dict(parsed)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")


_KNOWN = frozenset(_keys(Config))


def _explain(error: ValidationError) -> str:
    known = sorted(_KNOWN)
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5) or [
                name for name in known if name.split(".")[-1] == key.split(".")[-1]
            ]
            hint = f"; did you mean {near[0]}?" if near else "; --print-config shows all keys"
            lines.append(f"unknown key {key}={problem['input']!r}{hint}")
        elif not key:
            lines.append(str(problem["msg"]).removeprefix("Value error, "))
        else:
            lines.append(f"{key}={problem['input']!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}")
    return "; ".join(lines)


def _refuse_secrets(values: Mapping[str, Any], prefix: str = "") -> None:
    for key, value in values.items():
        if prefix + key not in _KNOWN and any(word in str(key).lower() for word in _SECRET_WORDS):
            raise UserError(
                f"key {prefix}{key} looks like a secret; credentials come from the environment, "
                "never from a configuration"
            )
        if isinstance(value, Mapping):
            _refuse_secrets(value, f"{prefix}{key}.")


def from_values(values: Mapping[str, Any]) -> Config:
    """Validate a nested mapping; raises `UserError` naming key, value and the nearest right name."""
    _refuse_secrets(values)
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(_explain(error)) from None


def on_preset(given: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Values that may name a preset to start from (`preset: NAME`), laid on it; `source` is what errors call them."""
    values = dict(given)
    preset = values.pop("preset", None)
    if preset is None:
        return values
    if preset not in presets():
        raise UserError(f"preset: {preset!r} in {source} is unknown; presets: {', '.join(presets())}")
    return merge(_file_values(str(preset)), values)


def _environment(variables: Mapping[str, str]) -> dict[str, Any]:
    """`T5_STEPS=100` and `T5_CHECKPOINT__EVERY=1000` as overrides; names of the program's own switches are left out."""
    values: dict[str, Any] = {}
    tops = set(Config.model_fields)
    for name, value in sorted(variables.items()):
        key = name.removeprefix("T5_").lower().replace("__", ".")
        if name.startswith("T5_") and key.split(".")[0] in tops:
            values = merge(values, _override(f"{key}={value}"))
    return values


def load(
    sources: Sequence[str], overrides: Iterable[str] = (), environment: Mapping[str, str] | None = None,
    *, base: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration of `sources` (presets' names or YAML files, later ones over earlier ones), all over `base`.

    Over the files go `T5_SECTION__KEY` variables of the environment, over those `key.sub=value` overrides.
    Raises `UserError` that names key, value and the nearest right name.
    """
    values: dict[str, Any] = dict(base or {})
    for source in sources:
        values = merge(values, on_preset(_file_values(source), source))
    values = merge(values, _environment(os.environ if environment is None else environment))
    for text in overrides:
        values = merge(values, _override(text))
    return from_values(values)


def dump(config: Config) -> str:
    """The whole resolved configuration as YAML that `load` takes back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
