"""A train worker: what the loop calls, on one rank of the group that Ray Train started."""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import ray
import ray.train
import torch
import torch.distributed as dist

from data.errors import UserError
from data.lanes import Cursor
from orchestrator.checkpoint import AsyncSaver, Found, Keep, Manifest, require_same_run, resume
from orchestrator.checkpoint.agreement import broadcast, gather
from orchestrator.faults.numbers import NonFinitePolicy, stepped_over
from orchestrator.initial import find, load_initial
from orchestrator.lease import Fence
from orchestrator.readers import ActorSource, Cursors, Feed, StepRows, lanes_of_rank
from orchestrator.redaction import redact
from orchestrator.run import KEYS, Run
from orchestrator.scheduler.phase import Attempt, Control
from orchestrator.training.assembly import assemble
from orchestrator.training.batches import to_batch
from orchestrator.training.corruption import Corruption, require_sound
from orchestrator.training.held_out import HeldOut
from orchestrator.training.loop import train
from orchestrator.training.meter import Meter
from orchestrator.training.step import Agreed, Stepper
from orchestrator.training.watch import Watch, probe
from orchestrator.training.watchdog import Watchdog

_PREEMPTION_SECONDS = 10.0
_WATCHED = 0.9
"""Of the limit of a collective: a watchdog that looks first tells where each rank stands; a collective that gives up
first would end the group before the rank that hangs has said so."""


@dataclass(frozen=True)
class WorkerSpec:
    """What the driver hands to every worker; it travels once per worker group."""

    run: Run
    scheduler: Any
    readers: Mapping[int, Any]
    fence: Fence


class Worker:
    """Implements `loop.Trainer` on one rank. Made anew for every attempt; `run` is its life."""

    def __init__(self, spec: WorkerSpec, group: dist.ProcessGroup) -> None:
        self._spec, self._group = spec, group
        self._config = spec.run.config
        self._limit = self._config.faults.timeout_seconds
        self._rank = dist.get_rank()
        self.last_step = self._config.steps
        began = time.monotonic()
        self._parts = assemble(spec.run)
        self._storage = spec.run.storage()
        built = time.monotonic()
        self._found = self._restore()
        self._start_seconds = {"build_seconds": built - began, "load_seconds": time.monotonic() - built}
        self._payload = self._found.manifest.payload if self._found else {}
        self.first_step = int(self._payload.get("step", 0)) + 1
        self._lanes = list(lanes_of_rank(self._config.batch.lanes, self._parts.data_rank, self._parts.data_world))
        self._nodes: list[str] = gather(ray.util.get_node_ip_address(), group)
        self._attempt = self._begin()
        self._control, self._asked = Control(), None
        self._cursors: Cursors = {}
        self._lines: list[dict[str, Any]] = list(self._payload.get("metrics", []))
        self._saves = self._agreed_saves = 0
        self._preemption_steps = self._config.log.every
        self.step_done = self.first_step - 1
        """Last complete step."""
        self._preempted = self._saved_for_preemption = self._stopping = False

    def run(self) -> None:
        """Train to the end or to an agreed stop, and tell the scheduler; nothing where it lets no attempt begin."""
        if not self._attempt.go:
            return
        time.sleep(self._attempt.wait_seconds)
        self._saver = self._make_saver()
        self._stepper = Stepper(self._config, self._parts, self._lanes)
        self._held_out = HeldOut(self._spec.run, self._parts)
        self._watch = self._make_watch()
        feed = self._feed()
        tokens = int(self._payload.get("tokens", 0))
        self._meter = Meter(self._config, self._parts, feed, self._saver, tokens=tokens)
        with Watchdog(_WATCHED * self._limit, self._hung) as self._watchdog:
            done = train(self, feed)
        saved = self._saver.finish(self._group)
        self._report_saves()
        if self._rank == 0:
            self._finish(done, saved)

    def step(self, step: int, rows: StepRows) -> Agreed:
        """See `Stepper`; steps in a skipped window take their rows and leave the parameters alone."""
        self._watchdog.beat()
        self._report_saves()
        self._poll_control()
        if self._config.faults.compare_every and step % self._config.faults.compare_every == 0:
            self._compare(step, rows)
        skip = stepped_over(step, self._attempt.skipped)
        agreed = self._stepper(step, rows, self._control, skip=skip)
        self._cursors = rows.cursors
        self.step_done = step
        self._agreed_saves, self._stopping = agreed.saves, agreed.stop
        self._meter.add(agreed)
        if not skip:
            # What is stepped over is known to be bad: seen again it must not roll the run back again.
            self._watch.step(step, agreed, in_backward=self._config.optimizer.in_backward)
        self._preempted = step % self._preemption_steps == 0 and ray.train.get_preemption_info() is not None
        return agreed

    def log_due(self, step: int) -> bool:
        """Logged steps, the first one of an attempt included."""
        return step % self._config.log.every == 0 or step == self.first_step

    def evaluation_due(self, step: int) -> bool:
        """By `evaluate.every`, else at permanent checkpoints."""
        return step % (self._config.evaluate.every or self._config.checkpoint.every) == 0

    def save_due(self, step: int, agreed: Agreed) -> bool:
        """Permanent ones by the step, ephemeral ones when the scheduler asked or a node is about to be taken away."""
        if self._preempted and not self._saved_for_preemption:
            self._saved_for_preemption = True
            return True
        return step % self._config.checkpoint.every == 0 or agreed.saves > self._saves

    def evaluate(self, step: int) -> None:
        """Held-out loss, for the next logged line."""
        began = time.monotonic()
        self._meter.held_out = self._held_out.loss(self._watchdog.beat)
        self._meter.pause(time.monotonic() - began)

    def log(self, step: int) -> None:
        """One line of metrics from rank 0; every rank's times are gathered for the comparison of speeds."""
        self._report_saves()
        times = gather({**self._meter.times(), "probe_seconds": probe(self._parts.device)}, self._group)
        # Asking is a barrier: all ranks must ask at the same steps, about every ten seconds.
        slowest = max(rank["step_seconds"] for rank in times)
        self._preemption_steps = max(1, int(_PREEMPTION_SECONDS / max(slowest, 1e-3)))
        self._watch.speeds(step, [rank.pop("probe_seconds") for rank in times])
        if self._rank == 0:
            line = self._meter.line(step, self._parts.schedule(step), times)
            self._lines.append(line)
            self._tell("log", line)
        self._meter.reset()

    def save(self, step: int) -> None:
        """Hand the state to the saver, which writes it in the background."""
        self._report_saves()
        permanent = step % self._config.checkpoint.every == 0 or step == self.last_step
        self._saves = max(self._saves, self._agreed_saves)
        # A scheduler that dies before it wrote these lines gets them back from whichever checkpoint comes to be.
        self._lines = [line for line in self._lines if line["step"] > self._control.written]
        position = {"step": step, "tokens": self._meter.tokens, "numbers": self._watch.state, "metrics": self._lines}
        payload = position | self._spec.run.identity()
        self._saver.begin(
            step,
            self._parts.chunks(),
            payload,
            kind="permanent" if permanent else "ephemeral",
            scattered={f"lane/{lane}": dict(cursor) for lane, cursor in self._cursors.items()},
        )

    def _restore(self) -> Found | None:
        def accept(manifest: Manifest) -> None:
            saved = {key: manifest.payload[key] for key in ("config", "model", "vocabulary", "data")}
            require_same_run(saved, self._spec.run.identity(), KEYS, f"the checkpoint {manifest.folder}")

        found = resume(self._storage, self._parts.chunks(), self._group, accept=accept)
        if found is None and self._config.initial is not None:
            load_initial(
                find(self._config.initial), self._parts.chunks(), self._group, optimizer=self._config.optimizer.restore
            )
        return found

    def _begin(self) -> Attempt:
        """Rank 0 asks the scheduler; all ranks get its answer."""
        answer = b""
        if self._rank == 0:
            asked = self._spec.scheduler.begin.remote(
                self._config.run, self.first_step - 1, self._nodes, self._payload.get("metrics", [])
            )
            answer = ray.cloudpickle.dumps(ray.get(asked, timeout=self._limit))
            self._tell("event", "loaded", {"step": self.first_step - 1, **self._start_seconds})
            for skipped in self._found.skipped if self._found else ():
                self._tell("event", "checkpoint_skipped", asdict(skipped))
        attempt: Attempt = ray.cloudpickle.loads(broadcast(answer, self._group))
        return attempt

    def _feed(self) -> Feed:
        saved = self._payload.get("scattered")
        empty: Cursor = {}  # type: ignore[typeddict-item]
        self._cursors = {lane: empty if saved is None else saved[f"lane/{lane}"] for lane in self._lanes}
        source = ActorSource(self._spec.readers, self._attempt.assignment, self._limit)
        return Feed(source, self._cursors, self.first_step, self.last_step, self._config.readers.ahead_steps)

    def _make_saver(self) -> AsyncSaver:
        name = broadcast(f"{os.getpid():x}{int(time.time()):x}".encode(), self._group).decode()
        return AsyncSaver(
            self._storage,
            rank=self._rank,
            world=dist.get_world_size(),
            attempt=name,
            fence=self._spec.fence,
            keep=Keep(permanent=self._config.checkpoint.keep, ephemeral=1),
            # A rank that cannot write is given up well before a step that waits for the save looks like a hang.
            deadline=self._limit / 2,
        )

    def _make_watch(self) -> Watch:
        faults = self._config.faults
        policy = NonFinitePolicy(faults.nonfinite_skips, faults.nonfinite_rollbacks)
        if self._payload:
            policy = policy.restored(self._payload["numbers"])

        def tell(kind: str, fields: dict[str, Any]) -> None:
            self._tell("event", kind, fields)

        return Watch(policy, len(self._attempt.skipped), self._nodes, tell if self._rank == 0 else None)

    def _finish(self, done: bool, saved: bool) -> None:
        if done and not saved:
            reason = "the last checkpoint could not be written; see the ledger, then run the same command again"
            self._tell("finish", "failed", reason)
        elif done or self._stopping:
            self._tell("finish", "done" if done else "stopped", "" if done else "asked to stop; the state is saved")
        else:
            # The next group must not count this end as a failure, so it is told before the group is gone.
            fields = {"world": dist.get_world_size()}
            ray.get(self._spec.scheduler.event.remote(self._config.run, "grow", fields), timeout=self._limit)

    def _compare(self, step: int, rows: StepRows) -> None:
        batch = to_batch(rows.rows, self._parts.device)

        def forward() -> list[torch.Tensor]:
            with torch.no_grad():
                sums = self._parts.loss(batch)
            return [sums.loss, sums.z_loss, sums.correct]

        try:
            require_sound(forward, self._parts.chunks(), lambda value: gather(value, self._group), self._nodes)
        except Corruption as error:
            if self._rank == 0:
                for rank in error.ranks:
                    place = {"rank": rank, "node": self._nodes[rank], "message": str(error)}
                    self._tell("event", "fault", {"fault": "corruption", "step": step, **place})
            raise

    def _hung(self, stack: str, waiting: bool) -> None:
        place = "for another rank, in a collective or on the device" if waiting else "outside of collectives"
        node = ray.util.get_node_ip_address()
        seconds = _WATCHED * self._limit
        fields = {
            "fault": "hang", "rank": self._rank, "node": node, "step": self.step_done, "waiting": waiting,
            "stack": stack, "message": f"no progress for {seconds:g} s, waiting {place}",
        }  # fmt: skip
        ray.get(self._spec.scheduler.event.remote(self._config.run, "fault", fields), timeout=10)

    def _poll_control(self) -> None:
        """Rank 0 keeps one question to the scheduler on its way and never waits for the answer."""
        if self._rank != 0:
            return
        if self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
            # A scheduler that is coming back has not answered: it is asked again.
            with contextlib.suppress(ray.exceptions.RayActorError):
                self._control = ray.get(self._asked)
            self._asked = None
        if self._asked is None:
            self._asked = self._spec.scheduler.control.remote(self._config.run, self.step_done)

    def _tell(self, method: str, *arguments: Any) -> None:
        reference = getattr(self._spec.scheduler, method).remote(self._config.run, *arguments)
        if method == "finish":
            ray.get(reference, timeout=self._limit)

    def _report_saves(self) -> None:
        for event in self._saver.events():
            if event.outcome != "written":
                kind = "checkpoint" if event.outcome == "committed" else f"checkpoint_{event.outcome}"
                self._tell("event", kind, {**asdict(event), "rank": self._rank})


def train_worker(settings: dict[str, Any]) -> None:
    """What Ray Train runs on every worker.

    An error that no restart mends is told to the scheduler first, so that the group that Ray starts next ends at once.
    """
    spec: WorkerSpec = settings["spec"]
    phase = spec.run.config.run
    seconds = spec.run.config.faults.timeout_seconds
    worker: Worker | None = None
    try:
        # A new group does not inherit the limit of the default one.
        group = dist.new_group(backend="gloo", timeout=timedelta(seconds=seconds))
        if _wanted(spec, group):
            worker = Worker(spec, group)
            worker.run()
    except UserError as error:
        ray.get(spec.scheduler.finish.remote(phase, "failed", redact(str(error))), timeout=seconds)
        raise
    except Exception:
        fields = {
            "rank": dist.get_rank() if dist.is_initialized() else -1,
            "node": ray.util.get_node_ip_address(),
            "step": 0 if worker is None else worker.step_done,
            "error": redact(traceback.format_exc()[-4000:]),
        }
        ray.get(spec.scheduler.event.remote(phase, "worker_failed", fields), timeout=seconds)
        raise


def _wanted(spec: WorkerSpec, group: dist.ProcessGroup) -> bool:
    """Rank 0 asks the scheduler whether this group shall build its model at all; all ranks get its answer."""
    answer = b""
    if dist.get_rank() == 0:
        asked = spec.scheduler.enter.remote(spec.run.config.run, dist.get_world_size())
        answer = b"yes" if ray.get(asked, timeout=spec.run.config.faults.timeout_seconds) else b"no"
    return broadcast(answer, group) == b"yes"
