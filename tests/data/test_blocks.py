"""The plan of blocks: sizes, order, and the whole corpus once an epoch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.blocks import Block, Plan, records_per_block
from data.errors import UserError


@given(
    records=st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(sum),
    size=st.integers(1, 9),
    lanes=st.integers(1, 7),
)
def test_each_epoch_holds_every_record_once_over_all_lanes(records: list[int], size: int, lanes: int) -> None:
    plan = Plan(records, size, 5, "task", "train")
    for epoch in range(3):
        numbers = range(epoch * plan.blocks, (epoch + 1) * plan.blocks)
        dealt = [n for lane in range(lanes) for n in numbers if n % lanes == lane]
        blocks = [plan.block(plan.number(n)) for n in dealt]
        seen = [(b.shard, b.start + i) for b in blocks for i in range(b.count)]
        assert sorted(seen) == [(s, i) for s, count in enumerate(records) for i in range(count)]


def test_order_changes_with_epoch_and_key() -> None:
    def order(epoch: int, *key: int | str) -> list[int]:
        plan = Plan([500], 5, *key)
        return [plan.number(epoch * 100 + j) for j in range(100)]

    assert order(0, 1, "a") == order(0, 1, "a")
    assert len({tuple(o) for o in (order(0, 1, "a"), order(1, 1, "a"), order(0, 2, "a"), order(0, 1, "b"))}) == 4


def test_blocks_end_with_their_shard() -> None:
    plan = Plan([7, 0, 3], 3, 0, "task", "train", shuffle=False)
    assert [plan.block(plan.number(n)) for n in range(4)] == [
        Block(0, 0, 3), Block(0, 3, 3), Block(0, 6, 1), Block(2, 0, 3)
    ]  # fmt: skip
    assert (plan.first_block(2), plan.first_block(3)) == (3, 4)
    assert plan.limited(2).blocks == 2


def test_size_of_blocks_follows_bytes_and_lanes() -> None:
    assert records_per_block(1_000_000, 2_000_000_000, 1 << 17, 8) == 65
    assert records_per_block(100, 200_000, 1 << 17, 5) == 5
    assert records_per_block(3, 100, 1 << 17, 128) == 1
    assert records_per_block(10, 10 << 30, 1 << 17, 1) == 1


def test_nothing_to_read_is_refused() -> None:
    with pytest.raises(UserError, match="c4/validation holds no record"):
        Plan([0, 0], 4, 0, "c4", "validation")
