"""One phase of a plan as the scheduler sees it: attempts, control flags, metrics, outcome. No Ray in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from data.storage import Storage, open_storage
from orchestrator.config import Config
from orchestrator.faults.blame import LIMIT, Ending, blamed, by_node, in_words
from orchestrator.faults.numbers import Window
from orchestrator.faults.restarts import Cause, Failure, RestartPolicy
from orchestrator.ledger import Ledger, summarize
from orchestrator.readers import assign_lanes
from orchestrator.redaction import redact, redacted
from orchestrator.scheduler.metrics import MetricsLog, TensorBoard

if TYPE_CHECKING:
    from orchestrator.scheduler.gauges import Gauges

Outcome = Literal["done", "stopped", "failed"]


@dataclass(frozen=True)
class Attempt:
    """What a worker group gets when it starts: whether to go on, and what was agreed for this attempt."""

    number: int
    go: bool
    assignment: dict[int, int]
    """Reader of each lane."""
    skipped: tuple[Window, ...]
    """Windows of steps whose data is stepped over."""
    wait_seconds: float = 0.0
    """Pause before the first step, longer the more often groups failed without progress."""


@dataclass(frozen=True)
class Control:
    """What the scheduler wants of the workers now."""

    stop: bool = False
    saves: int = 0
    """Checkpoints asked for since the attempt began."""
    grow: bool = False
    """End at the next checkpoint, to go on as a larger group."""
    written: int = 0
    """Logged lines up to this step are in storage."""


@dataclass
class Status:
    """What the driver shows."""

    outcome: Outcome | None = None
    reason: str = ""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)


class Phase:
    """The record of one phase; every method is cheap and called once an event."""

    def __init__(
        self, config: Config, readers: int, clock: Callable[[], float] = time.monotonic, gauges: Gauges | None = None
    ) -> None:
        self.config = config
        self._storage: Storage = open_storage(config.run_url)
        self._ledger = Ledger(self._storage)
        self._metrics = MetricsLog(self._storage)
        self._board: TensorBoard | None = None
        self._readers = readers
        self._gauges = gauges
        self._clock = clock
        self._attempts = self._offered = 0
        self._entered: list[int] = []
        self._growing = False
        self._failures: list[Failure] = []
        self._ending = Ending()
        self._saving = False
        known = self._ledger.events()
        self._faults_of = by_node(known)
        self._skipped = [Window(e["first"], e["last"]) for e in known if e["kind"] == "window_skipped"]
        self._world = next((int(e["world"]) for e in reversed(known) if e["kind"] == "attempt"), 0)
        self._stop = False
        self._saves = 0
        self._saved_at = self._began_at = clock()
        self._status = Status()
        self._lock = threading.Lock()

    def enter(self, world: int) -> bool:
        """A group of `world` workers is about to build its model; False: none is wanted any more.

        Groups of one size that fail, one after another, before they `begin` end the phase: no step can tell progress.
        """
        with self._lock:
            self._entered = [*self._entered, world] if world in self._entered else [world]
            allowed = self.config.faults.same_step
            if len(self._entered) > allowed and self._status.outcome is None:
                reason = (
                    f"{allowed} groups of workers in a row failed while they built the model or loaded the checkpoint; "
                    f"the last error: {self._ending.message}"
                )
                self._end("failed", reason)
            return self._status.outcome is None

    def begin(self, step: int, nodes: list[str], metrics: Sequence[dict[str, Any]] = ()) -> Attempt:
        """A worker group, one rank on each of `nodes`, starts after `step`; `metrics` are lines its checkpoint kept.

        It is refused once the phase has an outcome or must stop. A group after the first means that one failed, or
        left to grow: the restart policy decides whether there were too many failures, and then the phase ends with an
        explanation.
        """
        with self._lock:
            self._attempts += 1
            self._entered = []
            wait = self._after_failure(step, len(nodes))
            self._ending = Ending(nodes, step)
            self._saving = False
            self._saves, self._offered = 0, 0
            self._saved_at = self._began_at = self._clock()
            go = self._status.outcome is None and not self._stop
            if self._stop and self._status.outcome is None:
                self._end("stopped", f"stopped before step {step + 1}")
            if go:
                self._metrics.resume(step)
                for line in metrics:
                    self._metrics.add(line)
                self._board = TensorBoard(self._storage, len(self._ledger.events()))
            self._event("attempt", attempt=self._attempts, step=step, world=len(nodes), nodes=nodes, go=go)
            assignment = assign_lanes(self.config.batch.lanes, self._readers)
            return Attempt(self._attempts, go, assignment, tuple(self._skipped), wait)

    def control(self, step: int = 0) -> Control:
        """Whether to stop or to grow, and how many checkpoints were asked for; `step` is the last complete one.

        Ephemeral checkpoints are asked for by the clock, from one beginning to the next, but none while one is on its
        way: on a slow storage they come as fast as they can be written, and no step waits for that.
        """
        with self._lock:
            self._ending.reach(step)
            period = self.config.checkpoint.ephemeral_seconds
            if period is not None and not self._saving and self._clock() - self._saved_at >= period:
                self._saves, self._saved_at, self._saving = self._saves + 1, self._clock(), True
            seconds = self.config.faults.grow_seconds
            grows = seconds is not None and self._clock() - self._began_at >= seconds
            larger = grows and 0 < self._world < self._offered
            return Control(self._stop, self._saves, larger, self._metrics.written)

    def offer(self, workers: int) -> None:
        """The cluster has room for a group of `workers` in place of the running one; asked for again and again."""
        with self._lock:
            self._offered = workers

    def over(self) -> bool:
        """Whether no further group may begin."""
        with self._lock:
            return self._status.outcome is not None or self._stop

    def log(self, metrics: dict[str, Any]) -> None:
        """Take one logged step."""
        with self._lock:
            self._metrics.add(metrics)
            self._ending.reach(metrics["step"])
            if self._gauges is not None:
                self._gauges.metrics(metrics)
            if self._board is not None:
                self._board.add(metrics)
            self._status.metrics.append(metrics)
            steps = metrics.get("steps", 0)
            if steps:
                first = metrics["step"] - steps + 1
                self._ledger.append(
                    "progress", first=first, last=metrics["step"], seconds=metrics["step_seconds"] * steps
                )
        if self._metrics.due:
            self._bring(self._metrics.flush)

    def event(self, kind: str, **fields: Any) -> None:
        """Record what happened; a committed checkpoint also brings metrics to storage."""
        with self._lock:
            if kind in ("checkpoint", "checkpoint_failed"):
                self._saving = False
                self._saved_at = max(self._saved_at, self._clock() - fields.get("seconds", 0.0))
            if kind == "grow":
                self._growing = True
            if kind == "window_skipped":
                self._skipped.append(Window(fields["first"], fields["last"]))
            self._take(kind, fields)
        if kind == "checkpoint":
            self.flush()
            if self._gauges is not None:
                self._gauges.goodput(summarize(self._ledger.events()).goodput)

    def request_stop(self, reason: str) -> None:
        """Save and stop at the next agreed step."""
        with self._lock:
            if not self._stop:
                self._stop = True
                self._event("stop_requested", reason=reason)

    def request_save(self) -> None:
        """Write a checkpoint at the next agreed step."""
        with self._lock:
            self._saves += 1

    def finish(self, outcome: Outcome, reason: str = "") -> None:
        """The phase's end; the first word counts."""
        with self._lock:
            if self._status.outcome is None:
                self._end(outcome, reason)
        self.flush()

    def status(self) -> Status:
        """What is new since the last call: metrics, events, and the outcome."""
        with self._lock:
            new = self._status
            self._status = Status(new.outcome, new.reason)
            return new

    def flush(self) -> None:
        """Bring ledger, metrics and TensorBoard files to storage."""
        self._bring(self._ledger.flush)
        self._bring(self._metrics.flush)
        if self._board is not None:
            self._bring(self._board.flush)

    def _bring(self, flush: Callable[[], None]) -> None:
        """A failure is recorded, never raised into the run."""
        try:
            flush()
        except OSError as error:
            with self._lock:
                self._event("metrics_not_written", error=str(error))

    def _take(self, kind: str, fields: dict[str, Any]) -> None:
        """Record an event, and what it says of how this attempt ends and of nodes."""
        if kind in ("worker_failed", "fault"):
            self._ending.note(kind, fields)
        self._event(kind, **fields)
        self._count(kind, fields)

    def _count(self, kind: str, fields: dict[str, Any]) -> None:
        """Count what points to a node; one that faults point to again and again is told of."""
        found = blamed({"kind": kind, **fields})
        if found is None:
            return
        node, fault = found
        counts = self._faults_of.setdefault(node, {})
        counts[fault] = counts.get(fault, 0) + 1
        if sum(counts.values()) % LIMIT == 0:
            self._event("suspect_node", node=node, faults=in_words(counts))

    def _after_failure(self, step: int, world: int) -> float:
        """Seconds to wait before going on; the phase may be over instead. Another world size is no fault of the run."""
        resized, self._world = world != self._world, world
        grown, self._growing = self._growing, False
        if self._attempts == 1 or grown or self._status.outcome is not None or self._stop:
            return 0.0
        lost = None if resized else self._ending.lost()
        if lost is not None:
            self._take("fault", lost)
        ending = self._ending
        cause: Cause = "preemption" if resized else "worker"
        self._failures.append(Failure(cause, max(step, ending.reached), step, ending.message, ending.node))
        faults = self.config.faults
        decision = RestartPolicy(budget=faults.max_failures, same_step=faults.same_step).decide(self._failures)
        if not decision.restart:
            self._end("failed", decision.reason)
        return decision.wait_seconds

    def _end(self, outcome: Outcome, reason: str) -> None:
        self._status.outcome, self._status.reason = outcome, redact(reason)
        self._event("outcome", outcome=outcome, reason=reason)

    def _event(self, kind: str, **fields: Any) -> None:
        self._ledger.append(kind, **fields)
        self._status.events.append({"kind": kind, **redacted(fields)})
        if self._gauges is not None:
            self._gauges.event(kind, fields)
