"""`python -m data.inspect`: what a run would be fed, before it runs.

    python -m data.inspect --corpus prepared/books --step 100
    python -m data.inspect --config FILE key=value … --step 100 --lane 3 --json
    python -m data.inspect mixture=proportional_19 --json
    python -m data.inspect mixture=mine tasks=[mine.yaml] --corpus prepared/books

A mixture by its name alone is computed from the study's sizes; with further keys, from the tasks a run would open.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from data import inspection
from data.errors import UserError
from data.lanes import Lanes
from data.sources import Opened
from data.specification import LanesSpec


def parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    made = argparse.ArgumentParser(
        prog="python -m data.inspect",
        description="Show the rows of a step as text, the plan of blocks, and statistics; or the rates of a mixture.",
        epilog="exit codes: 0 done, 2 wrong configuration or input",
    )
    made.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys, as for a run")
    made.add_argument("--config", action="append", default=[], metavar="FILE", help="YAML file or preset, as for a run")
    made.add_argument("--corpus", metavar="URL", help="prepared corpus; the same as corpus=URL")
    made.add_argument("--step", type=int, default=None, metavar="N", help="the step to show (default 0)")
    made.add_argument("--lane", type=int, default=0, metavar="P", help="the lane to show (default 0)")
    made.add_argument("--rows", type=int, default=3, metavar="K", help="rows to decode (default 3)")
    made.add_argument(
        "--blocks", type=int, default=64, metavar="K", help="blocks to look at for duplicates (default 64)"
    )
    made.add_argument("--json", action="store_true", help="print one JSON object")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    arguments = parser().parse_args(argv)
    try:
        content = _content(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(content, indent=1) if arguments.json else "\n".join(_text(content)))
    return 0


def _content(arguments: argparse.Namespace) -> dict[str, Any]:
    mixtures = [text.removeprefix("mixture=") for text in arguments.overrides if text.startswith("mixture=")]
    if len(arguments.overrides) == len(mixtures) == 1 and not (arguments.config or arguments.corpus):
        return inspection.mixture(mixtures[0])
    spec = _spec(arguments)
    if mixtures and arguments.step is None:
        return inspection.rates_of(mixtures[-1], spec)
    step = arguments.step or 0
    if step < 0 or not 0 <= arguments.lane < spec.lanes:
        raise UserError(f"--step {step} --lane {arguments.lane}: steps count from 0, lanes from 0 to {spec.lanes - 1}")
    opened = Opened(spec)
    lanes = Lanes(spec, vocabulary=opened.vocabulary)
    return {
        "layout": inspection.layout(spec, opened, arguments.lane),
        **inspection.step(lanes, arguments.lane, step, arguments.rows),
        "documents": inspection.documents(opened, arguments.blocks),
    }


def _spec(arguments: argparse.Namespace) -> LanesSpec:
    # The one place where this package looks upwards: the configuration belongs to runs.
    from orchestrator.config import load
    from orchestrator.run import open_run

    overrides = list(arguments.overrides)
    if arguments.corpus:
        overrides.append(f"corpus={arguments.corpus}")
    return open_run(load(arguments.config or ["embedded"], overrides)).lanes


def _text(content: dict[str, Any]) -> list[str]:
    if "rates" in content:
        lines = [f"mixture {content['mixture']}", ""]
        lines += [f"  {name:<24} {share:.3f}" for name, share in content["shares"].items()]
        return [*lines, "", *(f"  {name:<24} {rate:.6f}" for name, rate in content["rates"].items())]
    return [*_layout(content["layout"]), "", *_step(content), "", *_documents(content["documents"])]


def _layout(layout: dict[str, Any]) -> list[str]:
    lines = [
        f"{layout['rows']} rows in {layout['lanes']} lanes, {layout['inputs_length']} inputs and "
        f"{layout['targets_length']} targets, {'dense' if layout['dense'] else 'packed'}, {layout['architecture']}, "
        f"seed {layout['seed']}"
    ]
    for source in layout["sources"]:
        what = source["objective"] or "supervised task"
        raw = f", segments of {source['raw_length']} tokens" if source["raw_length"] else ""
        lines.append(
            f"{source['name']}: rate {source['rate']:.4f}, {what}{raw}, {source['blocks_an_epoch']} blocks an epoch "
            f"of about {source['records_a_block']} records"
        )
        blocks = ", ".join(
            f"{b['n']} (shard {b['shard']}, records {b['start']}–{b['start'] + b['records'] - 1})"
            for b in source["blocks_of_lane"]
        )
        lines.append(f"  this lane's first blocks: {blocks}")
    return lines


def _step(content: dict[str, Any]) -> list[str]:
    lines = [f"step {content['step']}, lane {content['lane']}, cursor {json.dumps(content['cursor'])}"]
    for number, row in enumerate(content["rows"]):
        for side in ("inputs", "targets"):
            for example, text in enumerate(row.get(side, []), start=1):
                lines.append(f"  row {number} {side} {example} ({row[f'{side}_tokens']} tokens a row): {text}")
    until = content["until_here"]
    fill = ", ".join(f"{name} {rate:.4f}" for name, rate in until["fill_rate"].items())
    lines.append(f"until here: {until['examples']} examples, {until['truncated']} cut to fit, fill rate {fill}")
    lines.append("  " + ", ".join(f"{name} {count:,}" for name, count in sorted(until["counts"].items())))
    return lines


def _documents(sources: list[dict[str, Any]]) -> list[str]:
    lines = []
    for source in sources:
        read = f"{source['records']:,} records in the first {source['blocks']} of {source['of_blocks']} blocks"
        lengths = f"{source['mean_tokens']:.0f} on average, {source['longest_tokens']:,} the longest"
        lines.append(
            f"{source['name']}: {read}, {source['tokens']:,} tokens, {lengths}; {source['duplicates']} exact "
            f"duplicates, {source['empty_records']} empty, {source['bad_records']} bad"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
