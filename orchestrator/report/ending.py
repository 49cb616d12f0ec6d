"""Puts a finished run's summary together from its ledger, metrics, newest checkpoint and held-out rows."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from data.evaluation import evaluation_rows
from orchestrator.checkpoint import Chunk, Manifest, load, newest
from orchestrator.evaluation.filling import can_fill, fill_blanks
from orchestrator.evaluation.restore import restore
from orchestrator.faults.blame import suspect_nodes
from orchestrator.initial import Initial
from orchestrator.ledger import read_events
from orchestrator.ledger import summarize as summarize_events
from orchestrator.report.summary import Filling, Summary, unigram_entropy
from orchestrator.run import Run
from orchestrator.scheduler.metrics import MetricsLog
from orchestrator.sources import VALIDATION

_FILLED_BY_DRIVER = 1_000_000_000
"""Parameters of the largest model whose samples the driver decodes itself, on its CPU."""


def parameters_sha256(run: Run, manifest: Manifest) -> str:
    """SHA-256 over all parameters of a checkpoint, by name and tensor by tensor: the same for every layout."""
    digest = hashlib.sha256()
    for name in sorted(manifest.tensors):
        if name.startswith("param/"):
            shape = manifest.tensors[name].shape
            whole = torch.empty(shape)
            load(run.storage(), manifest, {name: Chunk(shape, (0,) * len(shape), whole, True)}, partial=True)
            digest.update(name.encode() + whole.numpy().tobytes())
    return digest.hexdigest()


def summarize(run: Run, next_command: str) -> tuple[Summary, str]:
    """The summary of a run that is done, and its page."""
    storage = run.storage()
    found = newest(storage, deep=False)
    assert found is not None
    metrics = MetricsLog(storage).lines
    held_out = [line["held_out_loss"] for line in metrics if "held_out_loss" in line]
    facts = summarize_events(read_events(storage))
    summary = Summary(
        run=run.config.run,
        outcome="done",
        steps=found.manifest.step,
        held_out_loss=held_out[-1] if held_out else None,
        unigram_entropy=_entropy(run),
        tokens=int(found.manifest.payload["tokens"]),
        seconds=facts.wall_seconds,
        parameters=run.model.parameters(),
        parameters_sha256=parameters_sha256(run, found.manifest),
        checkpoint=f"{run.config.run_url}/checkpoints/{found.manifest.folder}",
        goodput=facts.goodput,
        fillings=_fillings(run, found.manifest),
        suspect_nodes={node: facts.nodes[node] for node in suspect_nodes(facts.nodes)},
    )
    return summary, summary.page(metrics, run.config.run_url, next_command)


def _entropy(run: Run) -> float | None:
    if run.held_out is None:
        return None
    batches = evaluation_rows(run.lanes, VALIDATION, run.config.evaluate.rows, run.held_out)
    return unigram_entropy(np.concatenate([batch.targets for batch in batches]))


def _fillings(run: Run, manifest: Manifest) -> tuple[Filling, ...]:
    if not can_fill(run) or run.model.parameters() > _FILLED_BY_DRIVER:
        return ()
    initial = Initial(run.model, run.vocabulary, run.storage(), manifest)
    return fill_blanks(run, restore(initial))
