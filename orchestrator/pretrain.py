"""The main job: `python -m orchestrator.pretrain [--config FILE] [key=value ...]`."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.cli import parser, program, run_verb


def main(argv: Sequence[str] | None = None) -> int:
    """Pre-train; without arguments a tiny T5 on the standard library's documentation. Returns the exit code."""
    arguments = parser("pretrain", "Pre-train a T5, or go on with the run of the same name where it stopped.")

    def verb(config, parsed):  # type: ignore[no-untyped-def]
        from orchestrator.driver import run_phase

        return run_phase(config, f"python -m orchestrator.finetune initial={config.run_url} mixture=TASK")

    return run_verb(arguments, "embedded", verb, argv)


if __name__ == "__main__":
    program(main)
