"""The command line that all verbs share, and their exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from data.errors import UserError
from orchestrator.config import Config, dump, load, presets
from orchestrator.redaction import redact

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 75
"""Exit codes: done; failure; wrong configuration or input; interrupted and resumable by the same command."""


def parser(verb: str, description: str, source: tuple[str, str] | None = None) -> argparse.ArgumentParser:
    """A parser with the flags every verb has; further ones are added by the verb.

    `source` gives name and help of what the verb works on, where it is named before the overrides.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m orchestrator.{verb}",
        description=description,
        epilog="exit codes: 0 done, 1 failure, 2 wrong configuration or input, 75 interrupted and resumable",
    )
    if source is not None:
        made.add_argument("source", metavar=source[0], help=source[1], nargs="?")
    made.add_argument(
        "--config", metavar="FILE", help=f"YAML file or preset ({', '.join(presets())}); may be given several times",
        action="append", default=[],
    )
    made.add_argument("--print-config", action="store_true", help="show the whole resolved configuration and stop")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="overrides, for example steps=1000 model=small")
    return made


def source_of(arguments: argparse.Namespace) -> str | None:
    """What the verb works on, None where the command line begins with an override instead."""
    source: str | None = arguments.source
    if source is not None and "=" in source and "://" not in source and not Path(source).exists():
        arguments.overrides.insert(0, source)
        return None
    return source


def configuration(arguments: argparse.Namespace, preset: str) -> Config:
    """The configuration of parsed `arguments`; `preset` is taken where no --config was given."""
    return load(arguments.config or [preset], arguments.overrides)


def run_verb(
    arguments: argparse.ArgumentParser, preset: str | Callable[[argparse.Namespace], Config],
    verb: Callable[[Config, argparse.Namespace], int], argv: Sequence[str] | None = None,
) -> int:
    """Parse, print or run; a `UserError` becomes one sentence on standard error and exit code 2.

    The configuration is that of `preset` and the flags, or what a function makes of the flags.
    """
    parsed = arguments.parse_intermixed_args(argv)

    def call() -> int:
        config = configuration(parsed, preset) if isinstance(preset, str) else preset(parsed)
        if parsed.print_config:
            print(dump(config), end="")
            return DONE
        return verb(config, parsed)

    return guarded(call)


def guarded(call: Callable[[], int]) -> int:
    """What `call` returns; a `UserError` becomes one sentence on standard error and exit code 2."""
    try:
        return call()
    except UserError as error:
        print(redact(f"error: {error}"), file=sys.stderr)
        return WRONG


def program(main: Callable[[], int]) -> None:
    """Run `main` as a program whose exit code is what it returns."""
    sys.exit(main())
