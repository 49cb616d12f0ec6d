"""What of a plan starts now: order, predecessors, room on the cluster."""

import random

from orchestrator.scheduler.order import Demand, Unit, startable

SMALL = Demand(1.5)


def units() -> list[Unit]:
    return [
        Unit("pretrain", SMALL),
        Unit("pretrain/evaluations", Demand(1)),
        Unit("finetune", SMALL, after="pretrain"),
        Unit("other", SMALL),
    ]


def test_nothing_starts_before_what_it_comes_after() -> None:
    waiting = ["pretrain", "finetune", "other"]
    assert startable(units(), waiting, [], [], Demand(100)) == ["pretrain", "other"]
    assert startable(units(), waiting, ["pretrain"], ["pretrain", "other"], Demand(100)) == ["finetune"]


def test_units_run_side_by_side_only_where_they_fit() -> None:
    everything = [unit.name for unit in units()]
    assert startable(units(), everything, [], [], Demand(2)) == ["pretrain"]
    assert startable(units(), everything, [], [], Demand(3)) == ["pretrain", "pretrain/evaluations"]
    assert startable(units(), everything, [], [], Demand(4)) == ["pretrain", "pretrain/evaluations", "other"]
    assert startable(units(), everything, [], ["other"], Demand(2)) == []


def test_gpus_count_as_cpus_do() -> None:
    two = [Unit("a", Demand(1, 1)), Unit("b", Demand(1, 1)), Unit("c", Demand(1))]
    assert startable(two, "abc", [], [], Demand(8, 1)) == ["a", "c"]


def test_one_too_large_for_the_cluster_starts_alone_since_nodes_may_come() -> None:
    assert startable([Unit("a", Demand(64)), Unit("b", Demand(1))], "ab", [], [], Demand(2)) == ["a"]
    assert startable([Unit("a", Demand(64)), Unit("b", Demand(1))], "ab", [], ["b"], Demand(2)) == []


def test_every_plan_comes_to_its_end_without_ever_taking_more_than_there_is() -> None:
    chance = random.Random(0)
    for _ in range(200):
        plan = []
        for number in range(chance.randint(1, 9)):
            after = chance.choice([None, *[unit.name for unit in plan]])
            plan.append(Unit(str(number), Demand(chance.choice([0.5, 1, 2, 3]), chance.choice([0, 1])), after))
        room = Demand(chance.choice([3, 4]), chance.choice([1, 2]))
        done: list[str] = []
        running: list[str] = []
        while len(done) < len(plan):
            waiting = [unit.name for unit in plan if unit.name not in [*done, *running]]
            running += startable(plan, waiting, done, running, room)
            assert running
            taken = [unit.demand for unit in plan if unit.name in running]
            assert sum(d.cpus for d in taken) <= room.cpus
            assert sum(d.gpus for d in taken) <= room.gpus
            ended = running.pop(chance.randrange(len(running)))
            done.append(ended)
