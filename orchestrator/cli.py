"""The command line that all verbs share, and their exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from data.errors import UserError
from orchestrator.config import Config, dump, load, presets

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 75
"""Exit codes: done; failure; wrong configuration or input; interrupted and resumable by the same command."""


def parser(verb: str, description: str) -> argparse.ArgumentParser:
    """A parser with the flags every verb has; further ones are added by the verb."""
    made = argparse.ArgumentParser(
        prog=f"python -m orchestrator.{verb}",
        description=description,
        epilog="exit codes: 0 done, 1 failure, 2 wrong configuration or input, 75 interrupted and resumable",
    )
    made.add_argument(
        "--config", metavar="FILE", help=f"YAML file or preset ({', '.join(presets())}); may be given several times",
        action="append", default=[],
    )
    made.add_argument("--print-config", action="store_true", help="show the whole resolved configuration and stop")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="overrides, for example steps=1000 model=small")
    return made


def configuration(arguments: argparse.Namespace, preset: str) -> Config:
    """The configuration of parsed `arguments`; `preset` is taken where no --config was given."""
    return load(arguments.config or [preset], arguments.overrides)


def run_verb(
    arguments: argparse.ArgumentParser, preset: str, verb: Callable[[Config, argparse.Namespace], int],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse, print or run; a `UserError` becomes one sentence on standard error and exit code 2."""
    parsed = arguments.parse_intermixed_args(argv)
    try:
        config = configuration(parsed, preset)
        if parsed.print_config:
            print(dump(config), end="")
            return DONE
        return verb(config, parsed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG


def program(main: Callable[[], int]) -> None:
    """Run `main` as a program whose exit code is what it returns."""
    sys.exit(main())
