"""Any history of saves, crashes, damage, collections and restarts leaves a good checkpoint that is found.

What is good is judged without the reader: a checkpoint is good while every object that lay in its folder at the commit
is there, byte for byte.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.checkpoint import CheckpointDamaged, Collector, Keep, newest, resume, scan
from orchestrator.lease import acquire
from tests.orchestrator.checkpoint.layouts import NOBODY, blank, cut, same, savers, state_of
from tests.orchestrator.checkpoint.layouts import save as save_all
from tests.orchestrator.memory import FakeClock, MemoryStorage

KINDS = st.sampled_from(["permanent", "ephemeral"])
POINTS = st.integers(0, 25)
"""Operation at which a process dies; a save has up to about twenty."""


class Histories(RuleBasedStateMachine):
    @initialize(world=st.integers(1, 3))
    def begin(self, world: int) -> None:
        self.storage = MemoryStorage()
        self.committed: dict[str, dict[str, bytes]] = {}
        self.step, self.starts = 0, 0
        self.start(world)

    def start(self, world: int) -> None:
        """A new start of the run: it takes the lease over and has savers of its own."""
        self.starts += 1
        self.fence = acquire(self.storage.view(), clock=FakeClock()).fence()
        self.views = [self.storage.view() for _ in range(world)]
        self.group = self.savers(self.views)

    def savers(self, views: list[MemoryStorage]) -> list:
        return savers(views, f"{self.starts}.a", part_bytes=64, deadline=5.0, keep=Keep(), fence=self.fence)

    def good(self) -> list[str]:
        """Good folders, newest first."""
        content = self.storage.objects.content
        whole = [f for f, held in self.committed.items() if all(content.get(p) == data for p, data in held.items())]
        return sorted(whole, reverse=True)

    def note(self) -> None:
        """Remember what new commits hold."""
        for folder in scan(self.storage):
            if folder.committed and folder.name not in self.committed:
                paths = self.storage.list(f"checkpoints/{folder.name}/")
                held = {p: self.storage.objects.content[p] for p in paths}
                lasting = {p: d for p, d in held.items() if p.endswith(("manifest.json", "tensors"))}
                self.committed[folder.name] = lasting

    @rule(kind=KINDS)
    def save(self, kind: str) -> None:
        self.step += 1
        assert save_all(self.group, self.step, kind)
        self.note()

    @rule(kind=KINDS, victim=st.integers(0, 2), point=POINTS, answer_lost=st.booleans(), world=st.integers(1, 3))
    def crash_while_saving(self, kind: str, victim: int, point: int, answer_lost: bool, world: int) -> None:
        self.step += 1
        views = [self.storage.view() for _ in self.views]
        views[victim % len(views)] = self.storage.view(die_at=point, answer_lost=answer_lost)
        before = self.good()
        self.starts += 1
        save_all(self.savers(views), self.step, kind)
        self.note()
        assert len(self.good()) >= min(2, len(before))
        self.start(world)

    @precondition(lambda self: len(self.good()) >= 2)
    @rule(which=st.integers(0, 9), place=st.integers(0, 10**6), how=st.sampled_from(["flip", "cut", "lose"]))
    def damage(self, which: int, place: int, how: str) -> None:
        folder = self.good()[which % len(self.good())]
        paths = sorted(self.committed[folder])
        path = paths[place % len(paths)]
        data = bytearray(self.storage.objects.content[path])
        if how == "lose":
            del self.storage.objects.content[path]
        elif how == "cut":
            self.storage.objects.content[path] = bytes(data[: place % len(data)])
        else:
            data[place % len(data)] ^= 1 << (place % 8)
            self.storage.objects.content[path] = bytes(data)

    @rule(point=POINTS, answer_lost=st.booleans(), permanent=st.none() | st.integers(1, 3))
    def collect(self, point: int, answer_lost: bool, permanent: int | None) -> None:
        before = self.good()
        view = self.storage.view(die_at=point, answer_lost=answer_lost)
        try:
            Collector(view, Keep(permanent), fence=self.fence.check).collect(NOBODY)
        except OSError:
            assert view.dead
        assert self.good()[:2] == before[:2]

    @rule(world=st.integers(1, 3), axis=st.integers(0, 1))
    def restart(self, world: int, axis: int) -> None:
        self.start(world)
        good = self.good()
        for rank in range(world):
            expected = cut(state_of(0), rank, world, axis)
            chunks = blank(expected)
            try:
                found = resume(self.storage, chunks)
            except CheckpointDamaged:
                assert not good
                continue
            if found is None:
                assert not good
                self.step = 0
                continue
            assert found.manifest.folder == good[0]
            self.step = found.manifest.step
            assert found.manifest.payload["step"] == self.step
            wanted = cut(state_of(self.step), rank, world, axis)
            assert same({n: c.local for n, c in chunks.items()}, {n: c.local for n, c in wanted.items()})

    @invariant()
    def the_newest_good_one_is_found(self) -> None:
        if not hasattr(self, "storage"):
            return
        good = self.good()
        try:
            found = newest(self.storage)
        except CheckpointDamaged:
            found = None
        assert (found.manifest.folder if found else None) == (good[0] if good else None)
        if self.committed:
            assert good


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
