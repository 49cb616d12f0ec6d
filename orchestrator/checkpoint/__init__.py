"""Checkpoints: whole or not there, loadable into any layout, saved without holding up a step."""

from orchestrator.checkpoint.catalog import Found, Skipped, newest, scan, verify
from orchestrator.checkpoint.compare import (
    Change,
    KeyClasses,
    difference,
    require_same_fingerprint,
    require_same_run,
)
from orchestrator.checkpoint.format import CheckpointDamaged, CheckpointMismatch, Chunk, Kind, Manifest
from orchestrator.checkpoint.reader import load, resume
from orchestrator.checkpoint.retention import Collector, Keep, require_space
from orchestrator.checkpoint.saver import AsyncSaver, SaveEvent, SavesFailing

__all__ = [
    "AsyncSaver", "Change", "CheckpointDamaged", "CheckpointMismatch", "Chunk", "Collector", "Found", "Keep",
    "KeyClasses", "Kind", "Manifest", "SaveEvent", "SavesFailing", "Skipped", "difference", "load",
    "newest", "require_same_fingerprint", "require_same_run", "require_space", "resume", "scan", "verify",
]  # fmt: skip
