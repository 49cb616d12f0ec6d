"""Experiments of several phases: `python -m orchestrator.experiment PLAN.yaml [--print-plan] [key=value ...]`."""

from __future__ import annotations

from collections.abc import Sequence

from data.errors import UserError
from orchestrator.cli import DONE, guarded, parser, program, source_of
from orchestrator.config import dump
from orchestrator.plans import configurations, describe, read_plan


def main(argv: Sequence[str] | None = None) -> int:
    """Run a plan's phases, or what is left of them, and end with a table of scores. Returns the exit code."""
    arguments = parser(
        "experiment",
        "Run a plan of phases, side by side where they fit, or go on with it where it stopped.",
        source=("PLAN", "YAML file; orchestrator/plans.py shows its form. Overrides go to every phase"),
    )
    arguments.add_argument("--print-plan", action="store_true", help="show the phases and stop")
    parsed = arguments.parse_intermixed_args(argv)

    def call() -> int:
        source = source_of(parsed)
        if source is None:
            raise UserError("name the plan to run, a YAML file, before the overrides")
        plan = read_plan(source)
        configs = configurations(plan, parsed.config, parsed.overrides)
        if parsed.print_config:
            print("---\n".join(dump(config) for config in configs.values()), end="")
            return DONE
        if parsed.print_plan or not any(config.log.format == "json" for config in configs.values()):
            print(describe(plan, configs), flush=True)
        if parsed.print_plan:
            return DONE

        from orchestrator.phases import run_plan

        return run_plan(plan, configs)

    return guarded(call)


if __name__ == "__main__":
    program(main)
