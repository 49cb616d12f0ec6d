"""The helper that runs ranks: results in order, every rank's error, nothing left behind."""

import os
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.ranks import RankFailed, run_ranks


def add(rank: int, base: int) -> tuple[int, float]:
    total = torch.tensor(float(base + rank))
    dist.all_reduce(total)
    return rank, total.item()


def test_results_come_in_rank_order() -> None:
    assert run_ranks(3, add, 10) == [(0, 33.0), (1, 33.0), (2, 33.0)]


def fail(rank: int, folder: str) -> None:
    Path(folder, str(rank)).write_text(str(os.getpid()))
    if rank == 1:
        raise ValueError("rank one gives up")
    dist.barrier()


def test_an_error_is_shown_and_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(RankFailed, match=r"rank 1: Traceback(.|\n)*rank one gives up"):
        run_ranks(2, fail, str(tmp_path))
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


def vanish(rank: int) -> None:
    os._exit(3)


def test_a_death_without_an_error_is_told() -> None:
    with pytest.raises(RankFailed, match="rank 0: died without a word"):
        run_ranks(1, vanish)


def hang(rank: int) -> None:
    if rank == 0:
        time.sleep(600)


def test_a_rank_that_hangs_is_ended_in_time() -> None:
    with pytest.raises(RankFailed, match="rank 0: did not finish"):
        run_ranks(2, hang, timeout=5)
