"""What a run will need: `python -m orchestrator.plan [--config FILE] [--gpu NAME] [--nodes N] [key=value ...]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from orchestrator.cli import DONE, parser, program, run_verb
from orchestrator.config import Config, load

NODE = 8
"""GPUs of a node where none are stated."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print memory, traffic, time and cost of a configuration; needs neither GPUs nor a corpus. Returns the exit code.

    A plan that does not fit is an answer like any other: the exit code is 0, and it names the nearest that does.
    """
    arguments = parser("plan", "Say what a configuration needs and costs, and whether it fits, without running it.")
    arguments.add_argument("--gpu", default="H100", help="name (A100, H100, H200, ...) or bytes of memory (80e9)")
    arguments.add_argument("--nodes", type=_count, help="nodes of the cluster")
    arguments.add_argument("--gpus-per-node", type=_count, help="GPUs of a node (8)")
    arguments.add_argument("--price", type=float, help="price of a GPU and hour, in any currency")
    arguments.add_argument("--mfu", type=float, default=0.4, help="share of the peak rate that is reached (0.4)")
    arguments.add_argument("--json", action="store_true", help="print one JSON object")

    def verb(config: Config, parsed: argparse.Namespace) -> int:
        from orchestrator.forecast.answer import Cluster, answer
        from orchestrator.forecast.cost import gpu
        from orchestrator.forecast.page import page

        cluster = Cluster(gpu(parsed.gpu), _devices(parsed), parsed.gpus_per_node or NODE, parsed.mfu, parsed.price)
        found = answer(config, cluster)
        print(json.dumps(found) if parsed.json else page(found))
        return DONE

    def configuration(parsed: argparse.Namespace) -> Config:
        devices = _devices(parsed)
        # A cluster that is named is used whole, unless the configuration says how many workers there are.
        base = {} if devices is None else {"workers": str(devices)}
        return load(parsed.config or ["baseline"], parsed.overrides, base=base)

    return run_verb(arguments, configuration, verb, argv)


def _devices(parsed: argparse.Namespace) -> int | None:
    if parsed.nodes is None and parsed.gpus_per_node is None:
        return None
    return (parsed.nodes or 1) * (parsed.gpus_per_node or NODE)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


if __name__ == "__main__":
    program(main)
