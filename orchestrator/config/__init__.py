"""The typed configuration: `schema` says what a run can be, `load` reads it from presets, files and overrides."""

from orchestrator.config.load import dump, from_values, load, merge, on_preset, presets, read_yaml
from orchestrator.config.schema import Config

__all__ = ["Config", "dump", "from_values", "load", "merge", "on_preset", "presets", "read_yaml"]
