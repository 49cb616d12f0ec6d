"""``python -m data.prepare``: prepare a corpus, train a vocabulary, or prepare the embedded corpus."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from data.errors import UserError
from data.prepare.command_line import parser
from data.prepare.embedded import prepare_embedded
from data.prepare.executor import Executor, InProcess, OnRay
from data.prepare.lists import load_benchmark, load_lists, read_file
from data.prepare.pipeline import PAGE, Prepared, Request, prepare
from data.prepare.progress import terminal_progress
from data.prepare.readers import Page, read_piece
from data.prepare.settings import Settings, variant_settings
from data.prepare.sources import find_sources, plan_pieces
from data.prepare.train_vocabulary import mix, train_vocabulary
from data.storage import open_storage
from data.vocabulary import Vocabulary

# Options whose value goes into the settings as it is, where given; 0 switches the second kind off.
_PLAIN = (
    "language_probability", "fewest_words", "fewest_sentences", "bad_share", "vocabulary_size", "validation_share",
    "shard_bytes",
)
_ZERO_IS_OFF = ("longest_word", "longest_page")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, or 2 with one sentence on stderr where the user can mend it."""
    options = parser().parse_args(arguments)
    commands = {"corpus": _corpus, "vocabulary": _vocabulary, "embedded": _embedded}
    try:
        commands[options.command](options)
    except UserError as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 2
    return 0


def corpus_settings(options: argparse.Namespace, lists: dict[str, str]) -> Settings:
    """The settings that the options of the corpus command mean."""
    changes: dict[str, Any] = {name: getattr(options, name) for name in _PLAIN if getattr(options, name) is not None}
    for name in _ZERO_IS_OFF:
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name) or None
    if options.duplicates is not None:
        kinds = options.duplicates.split(",") if options.duplicates != "none" else []
        changes["duplicates"] = tuple(kind.strip() for kind in kinds)
    if options.language is not None:
        changes["language"] = None if options.language == "none" else options.language
    for variant, name in (("realnews", "domains"), ("webtext", "urls")):
        if options.variant == variant and name not in lists:
            raise UserError(f"--variant {variant} needs --{name} FILE, the list it is restricted to")
    return variant_settings(
        options.variant,
        format=options.format,
        text_field=options.text_field,
        url_field=options.url_field,
        kind=options.kind,
        lists=lists,
        **changes,
    )


def _corpus(options: argparse.Namespace) -> None:
    lists, fingerprints = load_lists(options.domains, options.urls, options.bad_words)
    request = Request(
        inputs=tuple(options.inputs),
        output=options.output,
        settings=corpus_settings(options, fingerprints),
        lists=lists,
        vocabulary=Vocabulary(read_file(options.vocabulary)) if options.vocabulary else None,
        benchmark=load_benchmark(options.benchmark) if options.benchmark else None,
        overwrite=options.overwrite,
    )
    executor: Executor = InProcess() if options.workers == 1 else OnRay(options.workers)
    _print_summary(prepare(request, executor, terminal_progress()))


def _print_summary(prepared: Prepared) -> None:
    report = prepared.report
    counts = report["counts"]
    print(f"{'Already prepared' if prepared.found else 'Prepared'}: {prepared.url}")
    print(f"  {counts.get('records', 0):,} records in, {counts.get('pages out', 0):,} documents out")
    for rule, count in report["pages_by_rule"].items():
        print(f"    {count:>12,}  {rule}")
    for split, part in report["splits"].items():
        print(f"  {split}: {part['documents']:,} documents, {part['tokens']:,} tokens, {part['shards']:,} shards")
    print(f"  vocabulary: {report['vocabulary']['pieces']:,} pieces")
    if report["benchmark"]:
        print(f"  benchmark: {report['benchmark']['found']:,} of {report['benchmark']['examples']:,} examples found")
    if report["ignored"]:
        print(f"  passed over: {report['ignored']:,} files with unknown endings, such as {report['ignored_files'][0]}")
    address, mark, query = prepared.url.partition("?")
    print(f"  report: {address}/{PAGE}{mark}{query}")
    print(f"Next: python -m orchestrator.pretrain corpus={prepared.url}")


def _vocabulary(options: argparse.Namespace) -> None:
    parts = _parts(options.parts, 1 + len(options.also))
    settings = variant_settings(
        "plain", format=options.format, text_field=options.text_field, url_field=options.url_field
    )
    groups = [options.inputs, *([place] for place in options.also)]
    languages = [list(_texts(places, settings, options.sample)) for places in groups]
    texts = mix(list(zip(languages, parts, strict=True))) if len(languages) > 1 else languages[0]
    model = train_vocabulary(texts, options.size)
    vocabulary = Vocabulary(model)
    folder, _, name = options.output.rpartition("/")
    open_storage(folder or ".").write(name, model)
    print(f"Trained: {options.output}, {vocabulary.pieces:,} pieces, fingerprint {vocabulary.fingerprint[:16]}")


def _texts(places: Sequence[str], settings: Settings, sample: int) -> Iterator[str]:
    """Readable texts of the inputs in order, until there are `sample` characters."""
    sources, _ = find_sources(places, settings.format)
    taken = 0
    for piece in plan_pieces(sources, settings):
        for page in read_piece(sources, piece, settings):
            if isinstance(page, Page):
                yield page.text
                taken += len(page.text)
                if taken >= sample:
                    return


def _parts(text: str | None, languages: int) -> list[float]:
    if text is None:
        return [10.0] + [1.0] * (languages - 1)
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if len(parts) != languages or min(parts) <= 0:
        raise UserError(f"--parts {text} is not {languages} positive numbers with colons between, such as 10:1:1:1")
    return parts


def _embedded(options: argparse.Namespace) -> None:
    print(f"Prepared: {prepare_embedded(options.output, terminal_progress())}")


if __name__ == "__main__":
    sys.exit(main())
