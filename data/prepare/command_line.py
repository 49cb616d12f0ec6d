"""The arguments of ``python -m data.prepare`` and its three commands."""

from __future__ import annotations

import argparse

from data.prepare.settings import DUPLICATES, FORMATS, VARIANTS

_EXAMPLES = """examples:
  python -m data.prepare corpus crawl/ --output prepared/c4
  python -m data.prepare corpus books/ --format lines --variant plain --vocabulary-size 8000 --output prepared/books
  python -m data.prepare corpus s3://crawl/wet --workers 16 --kind ids --output s3://corpora/c4
  python -m data.prepare corpus crawl/ --variant realnews --domains realnews.txt --output prepared/realnews
  python -m data.prepare vocabulary english/ --also german/ --also french/ --also romanian/ --output cc.model
"""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="python -m data.prepare",
        description="From raw text to a prepared corpus: clean, de-duplicate, split, train a vocabulary, write shards.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_corpus(commands.add_parser("corpus", help="prepare a corpus from files, folders or S3 prefixes"))
    _add_vocabulary(commands.add_parser("vocabulary", help="train a SentencePiece vocabulary with T5's special ids"))
    embedded = commands.add_parser("embedded", help="prepare the text that comes with Python: a corpus without data")
    embedded.add_argument("--output", default="prepared/embedded", help="folder (default: %(default)s)")
    return top


def _add_corpus(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Prepare a corpus. The same inputs and settings give the same bytes whatever the number of workers; "
        "a preparation that was stopped goes on when the command is given again."
    )
    command.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder, s3://bucket/object or prefix")
    command.add_argument("--output", required=True, help="folder or s3://bucket/prefix of the corpus")
    command.add_argument("--overwrite", action="store_true", help="replace another corpus that the output holds")
    _add_input_options(command)
    command.add_argument(
        "--workers", type=int, default=1,
        help="tasks at a time: 1 works in this process, more on Ray (local, or the cluster it runs on; default: 1)",
    )

    rules = command.add_argument_group("what is kept")
    rules.add_argument(
        "--variant", choices=tuple(VARIANTS), default="c4",
        help="c4: all rules; unfiltered: the language alone; realnews and webtext: c4 within --domains or --urls; "
        "plain: all text, for books and encyclopedias (default: c4)",
    )
    rules.add_argument("--domains", metavar="FILE", help="keep pages of these domains only, one a line")
    rules.add_argument("--urls", metavar="FILE", help="keep pages of these URLs only, one a line")
    rules.add_argument("--bad-words", metavar="FILE", help="drop pages that hold one of these words, one a line")
    rules.add_argument(
        "--duplicates", metavar="KINDS",
        help=f"what to de-duplicate over the corpus, in order: {', '.join(DUPLICATES)}, both with a comma, or none "
        "(c4: windows of three sentences, as the paper did; later releases took lines)",
    )
    rules.add_argument("--language", help="keep pages of this language by langdetect; none for all (c4: en)")
    rules.add_argument("--language-probability", type=float, metavar="P", help="the least probability (c4: 0.99)")
    rules.add_argument("--fewest-words", type=int, metavar="N", help="of a line (c4: 5)")
    rules.add_argument("--fewest-sentences", type=int, metavar="N", help="of a page (c4: 3)")
    rules.add_argument("--longest-word", type=int, metavar="N", help="characters; 0 for any (c4: 1000)")
    rules.add_argument("--longest-page", type=int, metavar="N", help="characters; 0 for any (c4: 190000)")
    rules.add_argument("--bad-share", type=float, metavar="SHARE", help="of records that may be bad (default: 0.01)")

    made = command.add_argument_group("what is made")
    made.add_argument("--kind", choices=("text", "ids"), default="text", help="text, or 16-bit ids (default: text)")
    made.add_argument("--vocabulary", metavar="FILE", help="a SentencePiece model; without it one is trained")
    made.add_argument("--vocabulary-size", type=int, metavar="N", help="pieces to train (default: 32000)")
    made.add_argument(
        "--validation-share", type=float, metavar="SHARE",
        help="held out by md5 of the URL (default: 0.001 as the paper, 0.01 below 2 GiB of text, 0.05 below 64 MiB)",
    )
    made.add_argument("--shard-bytes", type=int, metavar="N", help="of text in a shard (default: 134217728)")
    made.add_argument("--benchmark", metavar="FILE", help="a test set, one example a line, to look for in the corpus")


def _add_vocabulary(command: argparse.ArgumentParser) -> None:
    command.description = "Train a unigram vocabulary: pad 0, end 1, unknown 2, no begin mark."
    command.add_argument("inputs", nargs="+", metavar="INPUT", help="text of the main language: files or folders")
    command.add_argument(
        "--also", action="append", default=[], metavar="INPUT", help="text of one more language; may be repeated"
    )
    command.add_argument(
        "--parts", metavar="N:N…", help="parts of the languages in order (default: 10 to 1 each, the paper's mix)"
    )
    command.add_argument("--size", type=int, default=32_000, help="pieces (default: %(default)s)")
    command.add_argument("--sample", type=int, default=100_000_000, metavar="N", help="characters a language at most")
    command.add_argument("--output", required=True, metavar="FILE", help="the model file to write")
    _add_input_options(command)


def _add_input_options(command: argparse.ArgumentParser) -> None:
    read = command.add_argument_group("how inputs are read")
    read.add_argument(
        "--format", choices=FORMATS, default="auto",
        help="text: a document a file; lines: a document a line; jsonl: the public C4 layout; warc: WARC and WET; "
        "auto: by the ending of the name (default)",
    )
    read.add_argument("--text-field", default="text", metavar="NAME", help="of JSON lines (default: text)")
    read.add_argument("--url-field", default="url", metavar="NAME", help="of JSON lines (default: url)")
