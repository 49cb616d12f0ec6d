"""A run before Ray is started: paths, corpus, vocabulary, model and lanes resolved and checked against each other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.corpus import Corpus
from data.errors import UserError
from data.prepare.embedded import prepare_embedded
from data.specification import LanesSpec
from data.storage import Missing, Storage, open_storage
from data.tasks.survey import check
from data.vocabulary import Vocabulary
from model.config import T5Config, sized
from orchestrator.checkpoint import KeyClasses
from orchestrator.config import Config, dump, from_values, read_yaml
from orchestrator.initial import Initial, find, require_fit
from orchestrator.parallel.layout import Layout, check_layout
from orchestrator.sources import held_out_source, lanes_spec, supervised_tasks

CONFIG = "config.yaml"
_FREE = (
    "run", "steps", "storage", "readers", "checkpoint", "evaluate", "log", "faults", "initial", "corpus", "task_data",
    "tasks",
)  # fmt: skip
_COMPATIBLE = ("workers", "parallel", "batch.accumulate", "optimizer.in_backward")

KEYS = KeyClasses(
    frozenset(f"config.{key}{end}" for key in _FREE for end in ("", ".*")),
    frozenset(f"config.{key}{end}" for key in _COMPATIBLE for end in ("", ".*")),
)
"""What may differ between starts of one run. Free keys change nothing that is learned (data is compared by its
fingerprint, not by its address); compatible ones change rounding alone; all others are frozen."""


@dataclass(frozen=True)
class Run:
    """Everything a phase needs, as plain data that travels to actors and workers."""

    config: Config
    model: T5Config
    lanes: LanesSpec
    readers: int
    vocabulary: str
    """Fingerprint."""
    data: str
    """Fingerprint of all that decides which records the lanes hold."""
    held_out: str | None
    """Source whose validation split gives the held-out loss, if any has one."""
    warnings: tuple[str, ...] = ()
    """What training would learn wrongly or not at all, a sentence each."""

    def storage(self) -> Storage:
        """The run's folder."""
        return open_storage(self.config.run_url)

    def identity(self) -> dict[str, Any]:
        """What a checkpoint of this run carries and a resume compares."""
        return {
            "config": self.config.model_dump(mode="json"),
            "model": self.model.to_dict(),
            "vocabulary": self.vocabulary,
            "data": self.data,
        }

    def read_vocabulary(self) -> Vocabulary:
        """The vocabulary itself."""
        return Vocabulary.load(open_storage(str(self.lanes.vocabulary)))


def open_run(config: Config, initial: Initial | None = None) -> Run:
    """Resolve and check `config`; prepares the embedded corpus where it is asked for.

    `initial` stands for what `config.initial` will hold where that is still to be trained, by an earlier phase.
    Raises `UserError` (a missing or damaged shard, a vocabulary that does not fit, an empty corpus, ...).
    """
    if initial is None and config.initial is not None:
        initial = find(config.initial)
    config = _resolved(config, initial)
    assert config.corpus is not None
    corpus = Corpus.open(config.corpus)
    vocabulary = Vocabulary.load(corpus.storage)
    if corpus.index.vocabulary not in (None, vocabulary.fingerprint):
        raise UserError(
            f"the vocabulary in {config.corpus} has fingerprint {vocabulary.fingerprint[:12]}, its index was made with "
            f"{str(corpus.index.vocabulary)[:12]}; restore the vocabulary or prepare the corpus again"
        )
    model = model_config(config, vocabulary.rows)
    layout = layout_of(config, "cpu")
    for workers in config.worker_range:
        check_layout(layout, model, workers)
    if initial is not None:
        require_fit(initial, model, vocabulary.fingerprint)
    lanes = lanes_spec(config, config.corpus)
    tasks = supervised_tasks(lanes)
    surveys = check(tasks, vocabulary)
    data = [corpus.index.fingerprint, [[source.name, source.rate, source.split] for source in lanes.sources]]
    data += [[task.name, task.fingerprint("train")] for task in tasks]
    return Run(
        config,
        model,
        lanes,
        config.readers.count or max(1, config.worker_range[1] // 4),
        vocabulary.fingerprint,
        hashlib.sha256(json.dumps(data).encode()).hexdigest(),
        held_out_source(lanes),
        tuple(warning for each in surveys for warning in each.warnings),
    )


def _resolved(config: Config, initial: Initial | None) -> Config:
    values = config.model_dump(mode="json")
    if values["corpus"] is None and initial is not None and initial.run_config is not None:
        values["corpus"] = initial.run_config.corpus
    if values["corpus"] in (None, "embedded"):
        values["corpus"] = prepare_embedded(Path("prepared") / "embedded")
    for key in ("storage", "corpus", "task_data", "initial"):
        if values[key] is not None and "://" not in values[key]:
            values[key] = str(Path(values[key]).resolve())
    values["tasks"] = [str(Path(path).resolve()) if Path(path).exists() else path for path in values["tasks"]]
    return from_values(values)


def model_config(config: Config, rows: int) -> T5Config:
    """The model of `config` with an embedding of `rows` rows."""
    options = config.options
    name = config.model
    changes: dict[str, Any] = {}
    if options.version == "1.1":
        name = {"3B": "v1.1-xl", "11B": "v1.1-xxl"}.get(name, f"v1.1-{name}")
        changes = {"feed_forward": "gated-gelu", "tied": False}
    return sized(
        name, layers=options.layers, vocab_rows=rows, architecture=options.architecture, dropout=options.dropout,
        adapter=options.adapter, **changes,
    )  # fmt: skip


def layout_of(config: Config, device_type: str) -> Layout:
    """How `config` lays the model over devices of this type."""
    precision = config.parallel.precision
    if precision == "auto":
        precision = "bf16" if device_type == "cuda" else "fp32"
    return Layout(
        tensor=config.parallel.tensor,
        replicas=config.parallel.replicas,
        recompute=config.parallel.recompute,
        compile=config.parallel.compile,
        precision="bfloat16" if precision == "bf16" else "float32",
    )


def record_config(run: Run) -> None:
    """Write the resolved configuration into the run's folder."""
    run.storage().write(CONFIG, dump(run.config).encode())


def recorded_config(storage: Storage) -> Config | None:
    """The configuration a run was last started with, None for a new run."""
    try:
        text = storage.read(CONFIG).decode()
    except Missing:
        return None
    return from_values(read_yaml(text, f"{storage.url}/{CONFIG}"))
