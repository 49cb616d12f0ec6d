"""The supervision of many units without Ray: order, failures, stops. The scheduler is the real one, called at once."""

from __future__ import annotations

import os
import signal
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from orchestrator import supervisor
from orchestrator.cli import DONE, FAILED, INTERRUPTED
from orchestrator.report.progress import Progress
from orchestrator.scheduler.order import Demand, Unit
from orchestrator.scheduler.phase import Status
from orchestrator.supervisor import Signals, Supervisor


class Local:
    """An actor in this process: `actor.method.remote(...)` returns the result."""

    def __init__(self, held: Any) -> None:
        self._held = held

    def __getattr__(self, name: str) -> Any:
        return types.SimpleNamespace(remote=getattr(self._held, name))


class FakeRay(types.SimpleNamespace):
    """What the supervisor uses of Ray."""

    def __init__(self, cpus: float) -> None:
        options = lambda kind: lambda **_: types.SimpleNamespace(remote=lambda *given: Local(kind(*given)))  # noqa: E731
        super().__init__(
            remote=lambda kind: types.SimpleNamespace(options=options(kind)),
            get=lambda value, timeout=None: value,
            cluster_resources=lambda: {"CPU": cpus},
            get_runtime_context=lambda: types.SimpleNamespace(get_node_id=lambda: "0" * 56),
            exceptions=types.SimpleNamespace(RayActorError=OSError, GetTimeoutError=TimeoutError),
        )


class FakeWork:
    """Works for some looks of the supervisor and ends with `outcome`; `times` is how often there is work to do."""

    warnings = ()

    def __init__(
        self, name: str, log: list[str], after: str | None = None, outcome: str = "done", looks: int = 2, times: int = 1
    ) -> None:
        self.unit = Unit(name, Demand(1), after)
        self.log, self.outcome, self.looks, self.times = log, outcome, looks, times
        self.left = 0
        self.on_start: Callable[[], None] = lambda: None

    def waiting(self) -> bool:
        return self.times > 0

    def start(self, scheduler: Any, say: Any) -> None:
        self.log.append(f"+{self.unit.name}")
        self.left, self.times = self.looks, self.times - 1
        self.on_start()

    @property
    def running(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def stop(self) -> None:
        self.outcome, self.left = "stopped", 0

    def end(self, status: Status) -> Status:
        self.log.append(f"-{self.unit.name}")
        return Status(self.outcome, "because")  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_POLL_SECONDS", 0.0)


def supervise(monkeypatch: pytest.MonkeyPatch, works: list[FakeWork], cpus: float, done: tuple[str, ...] = ()) -> Any:
    monkeypatch.setattr(supervisor, "ray", FakeRay(cpus))
    monkeypatch.setattr(supervisor, "missing_resources", lambda demand: None)
    with Progress("text") as progress, Signals() as signals:
        for work in works:
            if work.outcome == "stop everything":
                work.on_start = signals.stop.set
        return Supervisor(works, done, progress, signals).run()


def test_units_run_in_order_and_side_by_side_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    works = [FakeWork("a", log), FakeWork("b", log, after="a"), FakeWork("c", log, looks=9)]
    assert supervise(monkeypatch, works, 1).code == DONE
    assert log == ["+a", "-a", "+b", "-b", "+c", "-c"]
    log.clear()
    works = [FakeWork("a", log), FakeWork("b", log, after="a"), FakeWork("c", log, looks=9)]
    assert supervise(monkeypatch, works, 2).code == DONE
    assert log == ["+a", "+c", "-a", "+b", "-b", "-c"]


def test_what_was_done_before_lets_its_followers_start(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    works = [FakeWork("a", log, times=0), FakeWork("b", log, after="a")]
    assert supervise(monkeypatch, works, 8, done=("a",)).code == DONE
    assert log == ["+b", "-b"]


def test_a_unit_starts_again_while_it_has_more_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    assert supervise(monkeypatch, [FakeWork("evaluation", log, times=3)], 8).code == DONE
    assert log == ["+evaluation", "-evaluation"] * 3


def test_a_failure_leaves_out_what_comes_after_it_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log: list[str] = []
    works = [FakeWork("a", log, outcome="failed", times=5), FakeWork("b", log, after="a"), FakeWork("c", log)]
    assert supervise(monkeypatch, works, 1).code == FAILED
    assert log == ["+a", "-a", "+c", "-c"]
    assert "a: failed: because" in capsys.readouterr().out


def test_a_stop_reaches_what_runs_and_starts_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    works = [FakeWork("a", log, looks=9), FakeWork("b", log, outcome="stop everything", looks=9), FakeWork("c", log)]
    assert supervise(monkeypatch, works, 2).code == INTERRUPTED
    assert log == ["+a", "+b", "-a", "-b"]


def test_sigterm_twice_asks_once_and_ends_nothing_but_a_second_interrupt_does() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signals.stop.is_set()
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(signal.SIGINT)
        assert ended.value.code == INTERRUPTED
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_stop_when_all_was_done_anyway_interrupts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    last = FakeWork("a", log, outcome="stop everything", looks=1)
    monkeypatch.setattr(last, "stop", lambda: setattr(last, "outcome", "done"))
    assert supervise(monkeypatch, [last], 2).code == DONE


def test_a_checkpoint_is_asked_for_by_a_signal_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log: list[str] = []
    monkeypatch.setattr(supervisor, "ray", FakeRay(2))
    monkeypatch.setattr(supervisor, "missing_resources", lambda demand: None)
    training, other = FakeWork("a", log, looks=4), FakeWork("b", log, looks=4)
    with Progress("text") as progress, Signals() as signals:
        watching = Supervisor([training, other], (), progress, signals)
        saves = mock.Mock()
        watching._scheduler._held.request_save = saves
        watching._phases["a"] = mock.Mock(steps=10)
        monkeypatch.setattr(watching, "_show", lambda name: False)
        training.on_start = lambda: os.kill(os.getpid(), signal.SIGUSR1)
        assert watching.run().code == DONE
        assert not signals.stop.is_set()
    saves.assert_called_once_with("a")
    assert "a: a checkpoint was asked for" in capsys.readouterr().out
