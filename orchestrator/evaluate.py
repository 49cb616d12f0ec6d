"""Evaluation: `python -m orchestrator.evaluate RUN|CHECKPOINT|FOLDER [--tasks NAME,...] [--follow] [key=value ...]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from data.errors import UserError
from orchestrator.cli import parser, program, run_verb, source_of
from orchestrator.config import Config, load


def main(argv: Sequence[str] | None = None) -> int:
    """Decode and judge tasks with trained weights, beside the training where it still runs. Returns the exit code."""
    arguments = parser(
        "evaluate",
        "Evaluate a run's checkpoints, one checkpoint, or an exported model on tasks.",
        source=(
            "RUN",
            "folder or s3:// URL of a run, a checkpoint, or exported weights; by default initial=",
        ),
    )
    arguments.add_argument(
        "--tasks", metavar="NAMES", action="append", default=[],
        help="tasks or mixtures, with commas or several times; by default those the run trains on",
    )  # fmt: skip
    arguments.add_argument("--steps", default="all", metavar="all|N|last", help="which checkpoints (default: all)")
    arguments.add_argument("--follow", action="store_true", help="go on with new checkpoints until the run has ended")
    arguments.add_argument(
        "--ensemble", nargs="+", default=[], metavar="RUN",
        help="average the logits of these and of the first RUN, the newest weights of each",
    )  # fmt: skip

    def configure(parsed: argparse.Namespace) -> Config:
        from orchestrator.evaluation.command import base_values

        parsed.source = source_of(parsed) or load(parsed.config, parsed.overrides).initial
        if parsed.source is None:
            raise UserError("name what to evaluate: a run's folder or URL, a checkpoint, or exported weights")
        return load(parsed.config, parsed.overrides, base=base_values(parsed.source))

    def verb(config, parsed):  # type: ignore[no-untyped-def]
        from orchestrator.evaluation.command import evaluate

        names = [name for given in parsed.tasks for name in given.split(",") if name]
        return evaluate(
            config, parsed.source, names, steps=parsed.steps, follow=parsed.follow, ensemble=parsed.ensemble
        )

    return run_verb(arguments, configure, verb, argv)


if __name__ == "__main__":
    program(main)
