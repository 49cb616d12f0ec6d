"""Every fault that meets a worker, on gloo ranks: what it costs, what is told of it, and how the run goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import ray
import torch

from data.storage import LocalStorage
from model.loss import LossSums
from model.transformer import Batch
from orchestrator.checkpoint import newest
from orchestrator.run import Run
from orchestrator.scheduler import metrics
from orchestrator.scheduler.metrics import MetricsLog
from orchestrator.supervisor import Signals
from orchestrator.training import worker
from orchestrator.training.assembly import Assembled
from tests.orchestrator.training.worker_ranks import (
    Seen,
    before_step,
    events_of,
    last_checkpoint,
    preempted_at,
    run_in,
    train_on_ranks,
    write_corpus,
)
from tests.ranks import RankFailed

STEPS = 8


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Seen]:
    """Two ranks to which nothing happens."""
    return train_on_ranks(made(corpus, tmp_path_factory.mktemp("undisturbed")))


def made(corpus: Path, folder: Path, *overrides: str, workers: int = 2) -> Run:
    return run_in(corpus, folder, f"workers={workers}", f"steps={STEPS}", "checkpoint.every=2", *overrides)


def same_end(found: Sequence[Seen], expected: Sequence[Seen]) -> bool:
    return [seen.digests[STEPS] for seen in found] == [seen.digests[STEPS] for seen in expected]


@contextlib.contextmanager
def with_loss(seen: Seen, change: Any) -> Iterator[None]:
    """`change(sums, step)` in place of the loss sums of this rank's batches."""
    plain = worker.assemble
    step = [0]

    def assemble(run: Run) -> Assembled:
        parts = plain(run)

        def loss(batch: Batch) -> LossSums:
            return change(parts.loss(batch), step[0])

        return dataclasses.replace(parts, loss=loss)

    def note(of: worker.Worker, number: int) -> None:
        step[0] = number

    with mock.patch.object(worker, "assemble", assemble), before_step(note):
        yield


@contextlib.contextmanager
def nan_on_rank_1(seen: Seen, steps: Sequence[int], gradient: bool = False) -> Iterator[None]:
    """A loss that is no number, or with `gradient` a number whose gradient is none."""

    def change(sums: LossSums, step: int) -> LossSums:
        if seen.rank != 1 or step not in steps:
            return sums
        if not gradient:
            return dataclasses.replace(sums, loss=sums.loss * float("nan"))
        loss = sums.loss.clone()
        if loss.requires_grad:
            loss.register_hook(lambda flowing: flowing * float("nan"))
        return dataclasses.replace(sums, loss=loss)

    with with_loss(seen, change):
        yield


@pytest.mark.parametrize("gradient", [False, True])
def test_a_nan_on_one_rank_is_skipped_by_all_alike(corpus: Path, tmp_path: Path, gradient: bool) -> None:
    run = made(corpus, tmp_path)
    ranks = train_on_ranks(run, disturb=partial(nan_on_rank_1, steps=[3, 4, 6], gradient=gradient))
    for seen in ranks:
        assert [step for step in seen.steps if not seen.steps[step].finite] == [3, 4, 6]
        assert [step for step in seen.steps if seen.digests[step] == seen.digests[step - 1]] == [3, 4, 6]
    assert ranks[0].policy == ranks[1].policy
    assert [ranks[0].policy[step]["run"] for step in range(1, STEPS + 1)] == [0, 0, 1, 2, 0, 1, 0, 0]
    assert ranks[0].policy[STEPS]["skipped"] == 3
    assert [event["step"] for event in events_of(run, "nonfinite")] == [3, 4, 6]
    assert events_of(run, "outcome")[-1]["outcome"] == "done"


@pytest.mark.parametrize("in_backward", [False, True])
def test_more_of_them_roll_back_and_step_over_the_data(corpus: Path, tmp_path: Path, in_backward: bool) -> None:
    run = made(corpus, tmp_path, "faults.nonfinite_skips=2", f"optimizer.in_backward={in_backward}")
    ranks = train_on_ranks(run, disturb=partial(nan_on_rank_1, steps=[3, 4, 5]), attempts=3)
    for seen in ranks:
        assert seen.errors == ["RollBack: steps 3 to 5 gave a non-finite loss or gradient; going back, past their data",
                               ""]  # fmt: skip
        unchanged = [step for step in range(1, STEPS + 1) if seen.digests[step] == seen.digests[step - 1]]
        assert unchanged == [3, 4, 5]
    assert [(event["first"], event["last"]) for event in events_of(run, "window_skipped")] == [(3, 5)]
    assert events_of(run, "attempt")[-1]["step"] in (2, 4)
    assert events_of(run, "outcome")[-1]["outcome"] == "done"


def test_a_gradient_that_spoiled_updates_in_the_backward_pass_is_rolled_back_at_once(
    corpus: Path, tmp_path: Path
) -> None:
    run = made(corpus, tmp_path, "optimizer.in_backward=true", "checkpoint.every=1")
    ranks = train_on_ranks(run, disturb=partial(nan_on_rank_1, steps=[4], gradient=True), attempts=3)
    for seen in ranks:
        assert seen.errors[0].startswith("RollBack: steps 4 to 4 gave a non-finite loss or gradient")
        assert seen.errors[1:] == [""]
        assert math.isfinite(seen.steps[STEPS].loss)
        assert seen.digests[4] == seen.digests[3]
    # No checkpoint was made of what was spoiled.
    assert events_of(run, "attempt")[-1]["step"] in (2, 3)
    assert events_of(run, "outcome")[-1]["outcome"] == "done"


def test_rollbacks_have_a_limit_after_which_the_run_stops_and_explains(corpus: Path, tmp_path: Path) -> None:
    run = made(corpus, tmp_path, "faults.nonfinite_skips=1", "faults.nonfinite_rollbacks=2")
    ranks = train_on_ranks(run, disturb=partial(nan_on_rank_1, steps=range(3, 100)), attempts=9)
    assert [error.partition(":")[0] for error in ranks[1].errors] == ["RollBack", "RollBack", "NumbersBroken"]
    outcome = events_of(run, "outcome")[-1]
    assert outcome["outcome"] == "failed"
    assert "after 2 rollbacks that stepped over data" in outcome["reason"]


def the_place_where_it_hangs() -> None:
    threading.Event().wait()


@contextlib.contextmanager
def hang_on_rank_1(seen: Seen) -> Iterator[None]:
    def act(of: worker.Worker, step: int) -> None:
        if seen.rank == 1 and step == 3:
            the_place_where_it_hangs()

    with before_step(act):
        yield


def test_a_hung_collective_ends_in_time_and_names_the_place(corpus: Path, tmp_path: Path) -> None:
    limit = 5
    run = made(corpus, tmp_path, f"faults.timeout_seconds={limit}")
    with pytest.raises(RankFailed, match="died without a word"):
        train_on_ranks(run, disturb=hang_on_rank_1)
    told = {event["rank"]: event for event in events_of(run, "fault")}
    assert {event["fault"] for event in told.values()} == {"hang"}
    assert "the_place_where_it_hangs" in told[1]["stack"]
    assert "waiting outside of collectives" in told[1]["message"]
    assert (told[1]["node"], told[1]["waiting"], told[1]["step"]) == ("node-1", False, 2)
    assert "all_gather" in told[0]["stack"] or "all_reduce" in told[0]["stack"] or "_fsdp" in told[0]["stack"]
    assert (told[0]["node"], told[0]["waiting"]) == ("node-0", True)
    began = [event["time"] for event in events_of(run, "progress") if event["last"] == 2][-1]
    for event in told.values():
        assert event["time"] - began < limit + 2
    assert last_checkpoint(run) == 2


@contextlib.contextmanager
def hang_before_the_first_step(seen: Seen) -> Iterator[None]:
    def node() -> str:
        if seen.rank == 1:
            time.sleep(8)
            os._exit(1)
        return "node-0"

    with mock.patch.object(ray.util, "get_node_ip_address", node):
        yield


def test_ranks_that_meet_before_the_first_step_wait_no_longer_than_the_limit(corpus: Path, tmp_path: Path) -> None:
    run = made(corpus, tmp_path, "faults.timeout_seconds=2")
    with pytest.raises(RankFailed, match="rank 1: died without a word"):
        train_on_ranks(run, disturb=hang_before_the_first_step)
    (event,) = events_of(run, "worker_failed")
    assert event["rank"] == 0
    # It gave up by itself; else it would have been told of a closed connection.
    assert "imed out" in event["error"].strip().splitlines()[-1]


@contextlib.contextmanager
def slow_rank_1(seen: Seen) -> Iterator[None]:
    plain = worker.probe

    def slow(device: torch.device) -> float:
        began = time.perf_counter()
        plain(device)
        time.sleep(0.05)
        return time.perf_counter() - began

    with mock.patch.object(worker, "probe", slow if seen.rank == 1 else plain):
        yield


def test_a_straggler_is_flagged_with_its_node_and_counted(corpus: Path, tmp_path: Path) -> None:
    run = made(corpus, tmp_path, "steps=27", "checkpoint.every=100")
    train_on_ranks(run, disturb=slow_rank_1)
    found = events_of(run, "straggler")
    assert [event["step"] for event in found] == [9, 18, 27]
    assert {(event["node"], event["rank"]) for event in found} == {("node-1", 1)}
    assert all(event["ratio"] > 1.5 for event in found)
    assert [(event["node"], event["faults"]) for event in events_of(run, "suspect_node")] == [("node-1", "3 straggler")]


@contextlib.contextmanager
def terminated(seen: Seen) -> Iterator[None]:
    """Rank 0's process stands for the driver too: it gets SIGTERM at step 3, and more of them while it saves."""

    def act(of: worker.Worker, step: int) -> None:
        if seen.rank == 0 and step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        if signals.stop.is_set() and seen.phase is not None:
            seen.phase.request_stop("the driver was asked to stop")

    plain = worker.Worker.save

    def save(of: worker.Worker, step: int) -> None:
        plain(of, step)
        if signals.stop.is_set():
            for _ in range(20):
                os.kill(os.getpid(), signal.SIGTERM)

    with Signals() as signals, before_step(act), mock.patch.object(worker.Worker, "save", save):
        yield


def test_sigterm_saves_the_same_step_on_all_ranks_and_more_of_them_cut_nothing_off(
    corpus: Path, tmp_path: Path, undisturbed: list[Seen]
) -> None:
    run = made(corpus, tmp_path, "checkpoint.every=100")
    ranks = train_on_ranks(run, disturb=terminated)
    stopped = max(ranks[0].steps)
    assert max(ranks[1].steps) == stopped < STEPS
    assert last_checkpoint(run) == stopped
    assert events_of(run, "outcome")[-1]["outcome"] == "stopped"
    again = train_on_ranks(run)
    assert min(again[1].steps) == stopped + 1
    assert same_end(again, undisturbed)


@contextlib.contextmanager
def killed_rank_1(seen: Seen, number: int) -> Iterator[None]:
    def act(of: worker.Worker, step: int) -> None:
        if seen.rank == 1 and step == 6:
            os.kill(os.getpid(), number)

    with before_step(act):
        yield


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_that_is_killed_costs_the_steps_since_the_last_checkpoint(
    corpus: Path, tmp_path: Path, undisturbed: list[Seen], number: int
) -> None:
    run = made(corpus, tmp_path)
    with pytest.raises(RankFailed, match="rank 1: died without a word"):
        train_on_ranks(run, disturb=partial(killed_rank_1, number=number))
    assert last_checkpoint(run) >= 2
    again = train_on_ranks(run)
    assert min(again[0].steps) == events_of(run, "attempt")[-1]["step"] + 1 <= 6
    assert same_end(again, undisturbed)


@contextlib.contextmanager
def noticed(seen: Seen) -> Iterator[None]:
    with mock.patch.object(worker, "_PREEMPTION_SECONDS", 1e-6), preempted_at(seen, 4):
        yield


def test_a_preemption_notice_is_asked_for_alike_and_saves_once_on_all_ranks(corpus: Path, tmp_path: Path) -> None:
    run = made(corpus, tmp_path, "checkpoint.every=100")
    ranks = train_on_ranks(run, disturb=noticed)
    assert ranks[0].asked == ranks[1].asked == STEPS
    saved = [(event["step"], event["checkpoint"]) for event in events_of(run, "checkpoint")]
    assert saved == [(4, "ephemeral"), (STEPS, "permanent")]
    assert last_checkpoint(run) == STEPS


@contextlib.contextmanager
def flipped_on_rank_1(seen: Seen) -> Iterator[None]:
    def act(of: worker.Worker, step: int) -> None:
        if seen.rank == 1 and step == 5 and not seen.errors:
            chunk = of._parts.chunks()["param/encoder.blocks.0.feed_forward.wo.weight"]
            chunk.local.view(torch.int32).view(-1)[7] ^= 1

    with before_step(act):
        yield


@pytest.mark.parametrize("replicas", [2, 3])
def test_a_flipped_bit_in_one_replica_is_found_and_its_rank_named(
    corpus: Path, tmp_path: Path, replicas: int
) -> None:
    run = made(corpus, tmp_path, f"parallel.replicas={replicas}", "faults.compare_every=2", workers=replicas)
    ranks = train_on_ranks(run, replicas, flipped_on_rank_1, attempts=2)
    odd = [1] if replicas == 3 else [0, 1]
    found = events_of(run, "fault")
    assert [(event["fault"], event["rank"], event["node"]) for event in found] == [
        ("corruption", rank, f"node-{rank}") for rank in odd
    ]
    assert {event["step"] for event in found} == {6}
    for seen in ranks:
        assert seen.errors[0].startswith("Corruption: silent corruption")
        assert "rank 1 on node-1: encoder.blocks.0.feed_forward.wo.weight" in seen.errors[0]
        assert seen.errors[1] == ""
    # The attempt that followed began before the flip or after it was saved; replicas are equal in the end.
    assert len({seen.digests[STEPS] for seen in ranks}) == 1
    assert events_of(run, "outcome")[-1]["outcome"] == "done"


@contextlib.contextmanager
def wrong_once_on_rank_1(seen: Seen) -> Iterator[None]:
    calls = [0]

    def change(sums: LossSums, step: int) -> LossSums:
        calls[0] += 1
        if seen.rank == 1 and calls[0] == 4:
            return dataclasses.replace(sums, loss=torch.nextafter(sums.loss, sums.loss + 1))
        return sums

    with with_loss(seen, change):
        yield


def test_a_step_that_does_not_repeat_names_its_rank(corpus: Path, tmp_path: Path) -> None:
    # The fourth forward pass of a rank is the repeated one of step 3.
    run = made(corpus, tmp_path, "faults.compare_every=3")
    ranks = train_on_ranks(run, disturb=wrong_once_on_rank_1, attempts=2)
    assert [seen.errors[1] for seen in ranks] == ["", ""]
    assert all("rank 1 on node-1: a step computed twice" in seen.errors[0] for seen in ranks)
    (event,) = events_of(run, "fault")
    assert (event["fault"], event["rank"], event["node"], event["step"]) == ("corruption", 1, "node-1", 3)


@contextlib.contextmanager
def full_disk_at_step_4(seen: Seen) -> Iterator[None]:
    plain = LocalStorage.write

    def write(self: LocalStorage, path: str, data: bytes, **options: Any) -> str:
        if seen.rank == 1 and "step-000000004" in path and path.endswith(".safetensors"):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        return plain(self, path, data, **options)

    with mock.patch.object(LocalStorage, "write", write):
        yield


def test_a_full_disk_costs_one_checkpoint_while_training_goes_on(
    corpus: Path, tmp_path: Path, undisturbed: list[Seen]
) -> None:
    run = made(corpus, tmp_path)
    ranks = train_on_ranks(run, disturb=full_disk_at_step_4)
    failed = events_of(run, "checkpoint_failed")
    assert {event["step"] for event in failed} == {4}
    assert all("No space left on device" in event["message"] for event in failed)
    assert 4 not in [event["step"] for event in events_of(run, "checkpoint")]
    assert same_end(ranks, undisturbed)
    assert last_checkpoint(run) == STEPS


@contextlib.contextmanager
def fails_at_step_5(seen: Seen) -> Iterator[None]:
    def act(of: worker.Worker, step: int) -> None:
        if step == 5:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with before_step(act):
        yield


def test_a_fault_that_repeats_at_one_step_ends_the_run_with_an_explanation(corpus: Path, tmp_path: Path) -> None:
    run = made(corpus, tmp_path, "faults.same_step=2")
    ranks = train_on_ranks(run, disturb=fails_at_step_5, attempts=9)
    assert len(ranks[0].errors) == 3
    assert ranks[0].errors[2] == ""
    outcome = events_of(run, "outcome")[-1]
    assert outcome["outcome"] == "failed"
    assert "the run failed 2 times after step 4 without a step of progress" in outcome["reason"]
    assert "an illegal memory access" in outcome["reason"]
    assert [event["go"] for event in events_of(run, "attempt")] == [True, True, False]


@contextlib.contextmanager
def written_never(seen: Seen) -> Iterator[None]:
    with mock.patch.object(MetricsLog, "flush", side_effect=OSError("away")):
        yield


@contextlib.contextmanager
def written_at_once(seen: Seen) -> Iterator[None]:
    with mock.patch.object(metrics, "_SECONDS_PER_MEGABYTE", 0.0):
        yield


def test_logged_lines_travel_with_every_checkpoint_until_they_are_in_storage(corpus: Path, tmp_path: Path) -> None:
    # What the scheduler says arrives a step later.
    for disturb, expected in ((written_never, range(1, STEPS + 1)), (written_at_once, (STEPS - 1, STEPS))):
        run = made(corpus, tmp_path / disturb.__name__, workers=1)
        train_on_ranks(run, 1, disturb)
        found = newest(run.storage())
        assert found is not None
        assert [line["step"] for line in found.manifest.payload["metrics"]] == list(expected)
