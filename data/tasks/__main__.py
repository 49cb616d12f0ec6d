"""`python -m data.tasks`: list tasks, see what a model would of one, import files, judge outputs, submit them."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from data.errors import UserError
from data.mixing import PRESETS, UNSUPERVISED, preset
from data.storage import open_storage
from data.tasks import Mixture, Task, get_mixture, get_task, load, located, mixture_names, registry, task_names
from data.tasks.baseline import majority
from data.tasks.declared import source_of
from data.tasks.files import ENDINGS
from data.tasks.imports import import_task
from data.tasks.outputs import read
from data.tasks.places import ending_in, parted, within
from data.tasks.submission import BENCHMARKS, write_submission
from data.tasks.survey import SURVEYED, Survey, survey
from data.vocabulary import Vocabulary


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a user's mistake is one sentence on standard error and status 2."""
    options = _parser().parse_args(arguments)
    try:
        for place in options.tasks or ():
            load(place)
        return int(options.run(options))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data.tasks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="names of tasks and mixtures")
    listing.set_defaults(run=_list)

    show = commands.add_parser("show", help="decoded examples, counts, truncation, rates of a task or mixture")
    show.add_argument("name", help="task or mixture")
    show.add_argument("--source", help="corpus or published-format file of a single task, in place of its own")
    show.add_argument("--task-data", help="folder or s3:// URL with imported tasks, each under its name")
    show.add_argument("--split", default="train")
    show.add_argument("--count", type=int, default=3, help="examples to show of each task (default 3)")
    show.add_argument("--limit", type=int, default=SURVEYED, help="examples to survey (default 20000; 0: all)")
    show.add_argument("--vocabulary", help="prepared corpus or folder with vocabulary/, or a .model file")
    show.add_argument("--form", choices=registry.FORMS, default="code", help="text as in code (default) or appendix")
    show.add_argument("--mixing", default="proportional_19", help=f"rates by one of {', '.join(PRESETS)}")
    show.add_argument("--baseline", action="store_true", help="also the majority class's results")
    show.set_defaults(run=_show)

    bring = commands.add_parser("import", help="files of a task into an examples corpus")
    bring.add_argument("name", help="task")
    bring.add_argument(
        "--source", help="local folder with the published files; by default the source that --tasks gives the task"
    )
    bring.add_argument("--to", required=True, help="folder or s3:// URL for the corpus")
    bring.add_argument("--bad-records", type=int, default=100, help="rows that may be left out (default 100)")
    bring.set_defaults(run=_import)

    judge = commands.add_parser("judge", help="results of a model's outputs, kept as JSON lines")
    judge.add_argument("name", help="task")
    judge.add_argument("--outputs", required=True, help="file of JSON lines with inputs, targets and output")
    judge.set_defaults(run=_judge)

    submit = commands.add_parser("submit", help="files for a benchmark's test server")
    submit.add_argument("name", choices=tuple(BENCHMARKS), help="benchmark")
    submit.add_argument("--outputs", required=True, help="folder or s3:// URL with TASK.jsonl for each task")
    submit.add_argument("--to", required=True, help="folder or s3:// URL for the files")
    submit.set_defaults(run=_submit)

    for command in (listing, show, bring, judge, submit):
        command.add_argument("--tasks", action="append", help="YAML or Python file, or module, that registers tasks")
        command.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return parser


def _list(options: argparse.Namespace) -> int:
    names = {"tasks": task_names(), "mixtures": mixture_names()}
    if options.json:
        print(json.dumps(names))
    else:
        for kind, each in names.items():
            print(f"{kind}: {' '.join(each)}")
    return 0


def _show(options: argparse.Namespace) -> int:
    mixture = get_mixture(options.name)
    names = [name for name in mixture.tasks() if name != UNSUPERVISED]
    if options.source and len(names) != 1:
        raise UserError(f"{options.name!r} is a mixture: give --task-data with its tasks' corpora, not --source.")
    vocabulary = _vocabulary(options.vocabulary) if options.vocabulary else None
    surveys, baselines = [], {}
    for name in names:
        task = located(get_task(name, options.form), options.task_data)
        if options.source:
            task = task.with_source(source_of(_source(options.source, options.split)))
        surveys.append(
            survey(
                task,
                options.split,
                vocabulary,
                evaluate=options.split != "train",
                limit=options.limit or None,
                show=options.count,
            )
        )
        if options.baseline:
            baselines[name] = majority(task, options.split)
    content = _content(mixture, surveys, baselines, options)
    print(json.dumps(content, ensure_ascii=False) if options.json else _text(content, surveys))
    return 0


def _content(
    mixture: Mixture, surveys: list[Survey], baselines: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    content: dict[str, Any] = {"name": mixture.name, "tasks": [each.to_json() for each in surveys]}
    if len(mixture.tasks()) > 1 and options.split == "train":
        content["mixing"] = options.mixing
        sizes = _sizes(surveys, options)
        content["sizes"] = {name: size for name, size in sizes.items() if name != UNSUPERVISED}
        content["rates"] = mixture.rates_by(preset(options.mixing), sizes)
    if baselines:
        content["majority"] = baselines
    return content


def _sizes(surveys: list[Survey], options: argparse.Namespace) -> dict[str, float]:
    """Training examples by task, the whole split counted even where its survey stopped early."""
    sizes = {UNSUPERVISED: float("inf")}
    for each in surveys:
        task = located(get_task(each.task, options.form), options.task_data)
        sizes[each.task] = each.examples if each.whole else task.size("train")
    return sizes


def _text(content: dict[str, Any], surveys: list[Survey]) -> str:
    lines = []
    for each in surveys:
        lines.append(
            f"{each.task}, split {each.split}: {each.records} records, {each.examples} examples"
            f"{'' if each.whole else ' looked at'}{f', {each.unlabeled} unlabeled' if each.unlabeled else ''}"
        )
        if each.inputs_tokens:
            lines.append(
                f"  inputs  mean {each.inputs_tokens / each.examples:.1f} tokens, longest {each.longest_inputs}, "
                f"{each.inputs_cut} cut\n"
                f"  targets mean {each.targets_tokens / each.examples:.1f} tokens, longest {each.longest_targets}, "
                f"{each.targets_cut} cut"
            )
        lines += [f"  warning: {warning}" for warning in each.warnings]
        for shown in each.shown:
            lines += [
                f"  [{shown['id']}]",
                f"    inputs:  {shown.get('inputs_decoded', shown['inputs'])}",
                f"    targets: {shown.get('targets_decoded', shown['targets'])}",
            ]
    for name, rate in content.get("rates", {}).items():
        size = content["sizes"].get(name)
        often = f", {size} examples, an epoch each {size / rate:.0f} draws" if size else ""
        lines.append(f"rate {rate:.4f}  {name}{often}")
    for name, results in content.get("majority", {}).items():
        figures = ", ".join(f"{metric} {value:.2f}" for metric, value in (results or {}).items())
        lines.append(f"majority class of {name}: {figures or 'none, its outputs are free text'}")
    return "\n".join(lines)


def _source(given: str, split: str) -> str | dict[str, str]:
    """A file stands for the split that is asked for; anything else is a corpus."""
    return {split: given} if ending_in(given, ENDINGS) else given


def _vocabulary(place: str) -> Vocabulary:
    if ending_in(place, (".model",)):
        folder, name = parted(place)
        return Vocabulary(open_storage(folder).read(name))
    return Vocabulary.load(open_storage(place))


def _import(options: argparse.Namespace) -> int:
    task: Task = get_task(options.name)
    interactive = sys.stderr.isatty()

    def progress(split: str, records: int) -> None:
        if interactive:
            print(f"\r{split}: {records} records", end="", file=sys.stderr, flush=True)

    found = import_task(task, options.source, options.to, bad_records=options.bad_records, progress=progress)
    if interactive:
        print("\r\x1b[K", end="", file=sys.stderr)
    if options.json:
        print(json.dumps({"task": task.name, "corpus": options.to, "splits": {k: vars(v) for k, v in found.items()}}))
        return 0
    for split, report in found.items():
        print(f"{task.name} {split}: {report.records} records, {report.examples} examples, {report.skipped} left out")
        for problem in report.problems:
            print(f"  left out: {problem}")
    print(f"corpus: {options.to}")
    return 0


def _judge(options: argparse.Namespace) -> int:
    task = get_task(options.name)
    examples, outputs = read(options.outputs)
    results = task.evaluate(examples, outputs)
    content = {
        "task": task.name,
        "examples": len(examples),
        "results": results,
        "score": task.score(results),
        "signatures": task.signatures(),
    }
    if options.json:
        print(json.dumps(content))
        return 0
    for name, value in results.items():
        print(f"{name} {value:.2f}")
    for name, signature in task.signatures().items():
        print(f"  {name}: {signature}")
    return 0


def _submit(options: argparse.Namespace) -> int:
    present = {path.removesuffix(".jsonl") for path in open_storage(options.outputs).list() if path.endswith(".jsonl")}
    found = {
        name: (get_task(name), *read(within(options.outputs, f"{name}.jsonl")))
        for name in BENCHMARKS[options.name]
        if name in present
    }
    if not found:
        raise UserError(f"{options.outputs} holds outputs of no {options.name} task: name them TASK.jsonl.")
    done = write_submission(options.name, found, options.to)
    if options.json:
        print(json.dumps(vars(done)))
        return 0
    print(f"wrote {', '.join(done.files)} to {options.to}")
    for name, count in done.invalid.items():
        if count:
            print(f"{name}: {count} outputs are no label and were sent as the first one")
    if done.missing:
        print(f"not there yet: {', '.join(done.missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
