"""`python -m orchestrator.ledger RUN_FOLDER [--json]`: what happened to a run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from rich.console import Console

from data.errors import UserError
from data.storage import open_storage
from orchestrator.ledger.goodput import as_dict, summarize
from orchestrator.ledger.history import history
from orchestrator.ledger.journal import read_events


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the history; 0, or 2 where there is no ledger at the place given."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.ledger", description="What happened to a run.")
    parser.add_argument("run", help="run folder or s3:// URL")
    parser.add_argument("--json", action="store_true", help="one JSON object with all events and the summary")
    options = parser.parse_args(arguments)
    try:
        events = read_events(open_storage(options.run))
        if not events:
            raise UserError(f"{options.run} holds no ledger: give the folder of a run (it holds 'ledger/')")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    summary = summarize(events)
    if options.json:
        print(json.dumps({"summary": as_dict(summary), "events": events}, indent=2))
    else:
        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(history(events, summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
