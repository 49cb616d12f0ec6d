"""Runs a function on several gloo ranks of this machine and brings back what each returned."""

import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

# A fork server that has imported torch starts a rank in milliseconds instead of seconds.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch.distributed.fsdp", "torch.distributed.tensor", "orchestrator.training.worker"])


class RankFailed(AssertionError):
    """At least one rank raised, died or did not finish; the message holds every rank's traceback."""


def run_ranks(world: int, function: Callable[..., Any], *args: Any, timeout: float = 250) -> list[Any]:
    """`function(rank, *args)` on each of `world` ranks, in rank order.

    `function` must be importable (module level); arguments and results are pickled. The default process group
    exists while it runs. Raises `RankFailed` if any rank fails; no process outlives the call.
    """
    with tempfile.TemporaryDirectory() as folder:
        pipes = [_CONTEXT.Pipe(duplex=False) for _ in range(world)]
        ranks = [
            _CONTEXT.Process(target=_rank, args=(rank, world, str(Path(folder, "store")), pipe[1], function, args))
            for rank, pipe in enumerate(pipes)
        ]
        try:
            for process, pipe in zip(ranks, pipes, strict=True):
                process.start()
                pipe[1].close()
            return _collect([pipe[0] for pipe in pipes], timeout)
        finally:
            for process in ranks:
                if process.is_alive():
                    process.kill()
                process.join()


def _collect(pipes: list[Connection], timeout: float) -> list[Any]:
    results: dict[int, Any] = {}
    failures: dict[int, str] = {}
    deadline = time.monotonic() + timeout
    while waiting := [pipe for rank, pipe in enumerate(pipes) if rank not in results and rank not in failures]:
        # After the first failure the others may hang in a collective: a short grace shows their errors too.
        patience = min(deadline - time.monotonic(), 2.0) if failures else deadline - time.monotonic()
        ready = wait(waiting, max(0.0, patience))
        if not ready:
            failures |= {pipes.index(pipe): "did not finish" for pipe in waiting}
        for pipe in ready:
            rank = pipes.index(pipe)
            try:
                good, value = pickle.loads(pipe.recv_bytes())
            except EOFError:
                good, value = False, "died without a word"
            (results if good else failures)[rank] = value
    if failures:
        raise RankFailed("\n".join(f"rank {rank}: {text}" for rank, text in sorted(failures.items())))
    return [results[rank] for rank in range(len(pipes))]


def _rank(
    rank: int, world: int, store: str, pipe: Connection, function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    import torch
    import torch.distributed as dist

    os.environ.update(GLOO_SOCKET_IFNAME="lo", RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
        answer = (True, function(rank, *args))
        dist.barrier()
    except BaseException:
        answer = (False, traceback.format_exc())
    pipe.send_bytes(pickle.dumps(answer))
    pipe.close()
    # A rank that failed leaves its peers inside collectives: leave without waiting for them.
    os._exit(0)
