"""The real train worker on gloo ranks without Ray: actors are objects at hand, one node a rank.

Each rank has a `Phase` of its own over the run's storage, whose ledger takes several writers; rank 0's is the one that
decides. What is to go wrong is done to a rank by a `disturb(rank, seen)` from the module of the test.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import ray
import torch.distributed as dist

from data.corpus import CorpusIndex, ShardWriter
from data.prepare.train_vocabulary import train_vocabulary
from data.storage import LocalStorage
from data.vocabulary import Vocabulary
from orchestrator.checkpoint import newest
from orchestrator.config import load
from orchestrator.lease import acquire
from orchestrator.ledger import Event, read_events
from orchestrator.readers import Reader, StepRows
from orchestrator.run import Run, open_run
from orchestrator.scheduler.phase import Control, Phase
from orchestrator.training import worker
from orchestrator.training.step import Agreed
from tests.ranks import run_ranks

WORDS = ("model", "learns", "fill", "blank", "text", "that", "not", "seen", "before", "writes", "what", "stood")
SETTINGS = (
    "model=tiny", "options.layers=1", "options.dropout=0.1", "objective.input_length=32", "batch.rows=8",
    "batch.lanes=4", "schedule.warmup=1000", "evaluate.rows=8", "log.every=1", "readers.ahead_steps=2",
    "checkpoint.ephemeral_seconds=null", "run=run",
)  # fmt: skip


def write_corpus(folder: Path) -> Path:
    """A corpus small enough to be made in a moment."""
    storage = LocalStorage(folder)
    texts = [" ".join(WORDS[(7 * i + 3 * j + i * j) % len(WORDS)] for j in range(40)) for i in range(64)]
    splits = {}
    for split, part in (("train", texts[:56]), ("validation", texts[56:])):
        with ShardWriter(storage, split, 0) as writer:
            for number, text in enumerate(part):
                writer.add(f"{number:04d}", {"txt": text.encode()})
            splits[split] = (writer.close(),)
    model = train_vocabulary(texts, 30)
    storage.write("vocabulary/sentencepiece.model", model)
    CorpusIndex(1, "text", splits, Vocabulary(model).fingerprint, "test").save(storage)
    return folder


def run_in(corpus: Path, storage: Path, *overrides: str) -> Run:
    """A run of the tiny model."""
    places = [f"corpus={corpus}", f"storage={storage}"]
    return open_run(load(["embedded"], [*places, *SETTINGS, *overrides], {}))


def events_of(run: Run, kind: str | None = None) -> list[Event]:
    """The run's ledger."""
    return [event for event in read_events(run.storage()) if kind in (None, event["kind"])]


@dataclass
class Seen:
    """What a rank went through; `digests` are of its part of the parameters, before the first step and after each."""

    rank: int
    phase: Phase | None = None
    worker: worker.Worker | None = None
    steps: dict[int, Agreed] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    policy: dict[int, dict[str, int]] = field(default_factory=dict)
    asked: int = 0
    errors: list[str] = field(default_factory=list)
    """How each attempt ended; empty where nothing was raised."""

    def result(self) -> Seen:
        """What can be sent."""
        return Seen(self.rank, None, None, self.steps, self.digests, self.policy, self.asked, self.errors)


Disturb = Callable[[Seen], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def nothing(seen: Seen) -> Iterator[None]:
    """No fault."""
    yield


def train_on_ranks(
    run: Run, world: int = 2, disturb: Disturb = nothing, *, attempts: int = 1, timeout: float = 120
) -> list[Seen]:
    """`attempts` groups of `world` ranks one after another, or fewer where the phase has an outcome before.

    A fault that ends an attempt must end it on all ranks, as nobody kills the others here. Raises
    `tests.ranks.RankFailed` where a rank dies.
    """
    with contextlib.closing(acquire(run.storage()).start()) as lease:
        return run_ranks(world, _work, run, lease.fence(), disturb, attempts, timeout=timeout)


def _work(rank: int, run: Run, fence: Any, disturb: Disturb, attempts: int) -> Seen:
    seen = Seen(rank, Phase(run.config, 1))
    assert seen.phase is not None
    with _without_ray(seen), _watched(seen), disturb(seen):
        readers = {0: Handle(Reader(run.lanes))}
        spec = worker.WorkerSpec(run, Handle(_Scheduler(seen)), readers, fence)
        for _ in range(attempts):
            error = ""
            try:
                worker.train_worker({"spec": spec})
            except Exception as raised:
                error = f"{type(raised).__name__}: {raised}"
            seen.errors.append(error)
            seen.phase.flush()
            # All have told what they had to tell; the rank that decides says whether there is more.
            over = [seen.phase.over()]
            dist.broadcast_object_list(over)
            if over[0]:
                break
    return seen.result()


@dataclass(frozen=True)
class Answer:
    """What a call gave."""

    value: Any


class Handle:
    """Calls an object as an actor handle does."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)
        return SimpleNamespace(remote=lambda *arguments: Answer(method(*arguments)))


class _Scheduler:
    """The scheduler's methods over one phase; what a worker tells is on storage when the call returns."""

    def __init__(self, seen: Seen) -> None:
        assert seen.phase is not None
        self._seen, self._phase = seen, seen.phase

    def enter(self, _: str, world: int) -> bool:
        return self._phase.enter(world)

    def begin(self, _: str, step: int, nodes: list[str], metrics: list[dict[str, Any]]) -> Any:
        return self._phase.begin(step, nodes, metrics)

    def control(self, _: str, step: int) -> Control:
        return self._phase.control(step)

    def log(self, _: str, metrics: dict[str, Any]) -> None:
        self._phase.log(metrics)

    def event(self, _: str, kind: str, fields: dict[str, Any]) -> None:
        self._phase.event(kind, **fields)
        self._phase.flush()

    def finish(self, _: str, outcome: Any, reason: str = "") -> None:
        self._phase.finish(outcome, reason)


def _get(reference: Any, timeout: float | None = None) -> Any:
    return [one.value for one in reference] if isinstance(reference, list) else reference.value


@contextlib.contextmanager
def _without_ray(seen: Seen) -> Iterator[None]:
    def no_notice() -> None:
        seen.asked += 1

    with contextlib.ExitStack() as stack:
        for where, name, stand_in in (
            (ray, "get", _get),
            (ray, "wait", lambda references, timeout: (references, [])),
            (ray.util, "get_node_ip_address", lambda: f"node-{seen.rank}"),
            (ray.train, "get_preemption_info", no_notice),
        ):
            stack.enter_context(mock.patch.object(where, name, stand_in))
        yield


@contextlib.contextmanager
def _watched(seen: Seen) -> Iterator[None]:
    """Note what every step did."""
    plain = worker.Worker.step

    def step(self: worker.Worker, number: int, rows: StepRows) -> Agreed:
        seen.worker = self
        seen.digests[number - 1] = digest(self)
        try:
            seen.steps[number] = plain(self, number, rows)
        finally:
            seen.digests[number] = digest(self)
            seen.policy[number] = dict(self._watch.state)
        return seen.steps[number]

    with mock.patch.object(worker.Worker, "step", step):
        yield


def digest(of: worker.Worker) -> str:
    """SHA-256 of this rank's part of all parameters."""
    found = hashlib.sha256()
    for name, chunk in sorted(of._parts.chunks().items()):
        if name.startswith("param/"):
            found.update(chunk.local.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


@contextlib.contextmanager
def before_step(act: Callable[[worker.Worker, int], None]) -> Iterator[None]:
    """Call `act(worker, step)` before the stepper takes a step."""
    plain = worker.Worker._poll_control

    def poll(self: worker.Worker) -> None:
        act(self, self.step_done + 1)
        plain(self)

    with mock.patch.object(worker.Worker, "_poll_control", poll):
        yield


@contextlib.contextmanager
def preempted_at(seen: Seen, step: int) -> Iterator[None]:
    """A notice from `step` on; asking is a barrier, as it is with Ray: ranks that do not ask alike hang."""

    def asked() -> object | None:
        seen.asked += 1
        dist.barrier()
        assert seen.worker is not None
        return object() if seen.worker.step_done >= step else None

    with mock.patch.object(ray.train, "get_preemption_info", asked):
        yield



def last_checkpoint(run: Run) -> int:
    """Step of the newest committed checkpoint, 0 without one; every byte of it is checked."""
    found = newest(run.storage())
    return 0 if found is None else found.manifest.step
