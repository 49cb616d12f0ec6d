"""Fine-tuning: `python -m orchestrator.finetune initial=RUN mixture=TASK [--config FILE] [key=value ...]`."""

from __future__ import annotations

from collections.abc import Sequence

from data.errors import UserError
from orchestrator.cli import parser, program, run_verb


def main(argv: Sequence[str] | None = None) -> int:
    """Fine-tune all parameters, adapters, or ever more blocks (train.parameters). Returns the exit code."""
    arguments = parser("finetune", "Train a T5 further on tasks, or go on with the run of the same name.")

    def verb(config, parsed):  # type: ignore[no-untyped-def]
        from orchestrator.driver import run_phase

        if config.initial is None:
            raise UserError("fine-tuning needs weights to start from; give initial=RUN, a checkpoint or a folder")
        if config.mixture is None:
            raise UserError("fine-tuning needs something to train on; give mixture=TASK or the name of a mixture")
        return run_phase(config, f"python -m orchestrator.evaluate {config.run_url}")

    return run_verb(arguments, "finetune", verb, argv)


if __name__ == "__main__":
    program(main)
