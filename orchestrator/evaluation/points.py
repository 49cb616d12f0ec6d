"""Which weights are evaluated: checkpoints of a run, one checkpoint, an exported folder, an ensemble of several."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import UserError
from data.storage import Storage, open_storage
from data.tasks.places import within
from orchestrator.checkpoint import CheckpointDamaged, Manifest, scan
from orchestrator.checkpoint.catalog import read_manifest
from orchestrator.checkpoint.format import ROOT
from orchestrator.initial import Initial, find, run_and_checkpoint


@dataclass(frozen=True)
class Point:
    """One set of weights. `label` names its folder under `evaluations/`, `sources` are what `restore` takes."""

    label: str
    step: int
    sources: tuple[str, ...]
    mark: str
    """Tells these weights from others of the same label."""


def permanent(storage: Storage, known: dict[str, Manifest] | None = None) -> list[Manifest]:
    """The whole permanent checkpoints of a run, oldest step first; one of several attempts at a step.

    `known` keeps manifests from one call to the next. A damaged checkpoint is no permanent one.
    """
    known = {} if known is None else known
    found: dict[int, Manifest] = {}
    for folder in scan(storage):
        if not folder.committed or folder.step in found:
            continue
        try:
            manifest = known.get(folder.name) or read_manifest(storage, folder)
        except CheckpointDamaged:
            continue
        known[folder.name] = manifest
        if manifest.kind == "permanent":
            found[folder.step] = manifest
    return [found[step] for step in sorted(found)]


def chosen(manifests: Sequence[Manifest], steps: str) -> list[Manifest]:
    """Those of `manifests` that `steps` names: "all", "last", or a number. Raises `UserError` where it is not there."""
    if steps == "all":
        return list(manifests)
    if steps == "last":
        return list(manifests[-1:])
    found = [manifest for manifest in manifests if steps.isdigit() and manifest.step == int(steps)]
    if not found:
        there = ", ".join(str(manifest.step) for manifest in manifests) or "none"
        raise UserError(f"--steps {steps}: no permanent checkpoint of that step; there are: {there}")
    return found


def point_of(run_url: str, manifest: Manifest) -> Point:
    """A checkpoint of the run at `run_url`."""
    return Point(str(manifest.step), manifest.step, (within(run_url, f"{ROOT}/{manifest.folder}"),), manifest.folder)


def single(source: str, initial: Initial) -> Point:
    """The one set of weights that `source` is: a checkpoint's folder or an exported one."""
    if initial.manifest is not None:
        return Point(str(initial.manifest.step), initial.manifest.step, (source,), initial.manifest.folder)
    stats = open_storage(str(initial.folder)).stats()
    mark = hashlib.sha256(repr(sorted((path, stat.etag) for path, stat in stats.items())).encode()).hexdigest()
    return Point("0", 0, (str(Path(source).resolve()),), mark)


def ensemble(sources: Sequence[str]) -> Point:
    """The newest weights of each of `sources` as one model. Raises `UserError` where they do not go together."""
    points = []
    first: Initial | None = None
    for source in sources:
        initial = find(source)
        first = first or initial
        kinds = [(each.config.vocab_rows, each.config.decoder_only, each.vocabulary) for each in (first, initial)]
        if kinds[0] != kinds[1]:
            raise UserError(f"{sources[0]} and {source} differ in vocabulary or architecture; an ensemble needs one")
        manifest = initial.manifest
        whole = single(source, initial)
        points.append(whole if manifest is None else point_of(run_and_checkpoint(source)[0], manifest))
    mark = " ".join(point.mark for point in points)
    members = tuple(place for point in points for place in point.sources)
    digest = hashlib.sha256(" ".join(members).encode()).hexdigest()[:8]
    return Point(f"ensemble-{len(points)}-{digest}", points[0].step, members, mark)
