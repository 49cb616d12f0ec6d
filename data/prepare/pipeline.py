"""From inputs to a prepared corpus: the order of the stages, and the one write that makes the corpus exist.

Shards, vocabulary and report are written first, ``index.json`` last. A corpus that is there already, from the same
inputs and settings, is left alone; a preparation that was killed goes on at its first unfinished task.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

from data.corpus import CorpusIndex, Shard
from data.corpus.index import VERSION, Kind
from data.errors import BudgetExceeded, UserError
from data.prepare import stages
from data.prepare.executor import Executor, InProcess, Job, Lists, run_stage
from data.prepare.overlap import Benchmark
from data.prepare.progress import Progress, Silent
from data.prepare.readers import Bad, read_piece
from data.prepare.report import build_report
from data.prepare.report_page import render_page
from data.prepare.settings import Settings, automatic_validation_share
from data.prepare.shards import WriteShard, plan_shards
from data.prepare.sources import Source, find_sources, plan_pieces
from data.prepare.tally import Tally
from data.prepare.train_vocabulary import train_vocabulary
from data.prepare.work import Part, Work, parts_from_json
from data.storage import LocalStorage, Missing, Storage, open_storage
from data.vocabulary import Vocabulary

MODEL = "vocabulary/sentencepiece.model"
REPORT, PAGE = "report.json", "report.html"
# gzip'd text is taken to be so much larger when the number of partitions is chosen.
_GZIP_RATIO = 3
# However few records there are, so many may be bad.
_FEW = 10
_FIRST_RECORDS = 100


@dataclass(frozen=True)
class Request:
    """One preparation: what to read, where to write, how; `vocabulary` None means one is trained."""

    inputs: tuple[str, ...]
    output: str
    settings: Settings
    lists: Lists = field(default_factory=Lists)
    vocabulary: Vocabulary | None = None
    benchmark: Benchmark | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Prepared:
    """A finished corpus: its URL, its index, its report, and whether it was there already."""

    url: str
    index: CorpusIndex
    report: dict[str, Any]
    found: bool


def prepare(request: Request, executor: Executor | None = None, progress: Progress | None = None) -> Prepared:
    """Prepare a corpus, or find it prepared.

    Raises UserError where the inputs or settings are wrong, the output holds another corpus, or no text is left, and
    BudgetExceeded where more records are bad than the settings allow.
    """
    executor, progress = executor or InProcess(), progress or Silent()
    settings = request.settings
    sources, ignored = find_sources(request.inputs, settings.format)
    output = open_storage(request.output)
    fingerprint = _fingerprint(request, sources)
    found = _existing(output, fingerprint, request.overwrite)
    if found is not None:
        return found
    size = sum(source.size * (_GZIP_RATIO if source.compressed else 1) for source in sources)
    share = settings.validation_share
    job = Job(
        settings=settings,
        lists=request.lists,
        output=output,
        work=Work(output, f"work/{fingerprint[:16]}"),
        sources=tuple(sources),
        pieces=tuple(plan_pieces(sources, settings)),
        partitions=-(-size // settings.partition_bytes) or 1,
        validation_share=automatic_validation_share(size) if share is None else share,
    )
    _check_first_records(job)
    tally, parts = _text_stages(job, executor, progress)
    _check_splits(job, tally, parts)
    vocabulary = request.vocabulary or _trained(job, parts["train"], executor, progress)
    plans = tuple(plan_shards(parts, settings.shard_bytes))
    write = WriteShard(plans, vocabulary, request.benchmark)
    written = run_stage(job, "shards", write, len(plans), executor, progress)
    return _commit(job, request, fingerprint, tally, written, vocabulary, ignored)


def _text_stages(job: Job, executor: Executor, progress: Progress) -> tuple[Tally, dict[str, list[Part]]]:
    def run(stage: str, function: Any, count: int) -> list[dict[str, Any]]:
        return run_stage(job, stage, function, count, executor, progress)

    pieces = len(job.pieces)
    if stages.compares_urls(job):
        run("urls", stages.collect_urls, pieces)
        run("urls-owners", partial(stages.find_losers, "urls"), job.partitions)
    tally = Tally()
    results: list[dict[str, Any]] = []
    for level in range(len(job.settings.duplicates) + 1):
        stage = stages.text_stage_name(job, level)
        if level:
            before = stages.text_stage_name(job, level - 1)
            run(f"{before}-owners", partial(stages.find_losers, before), job.partitions)
        results = run(stage, partial(stages.process_text, level), pieces)
        for result in results:
            tally.add(Tally.from_json(result["tally"]))
        if level == 0:
            _check_bad_records(tally, job.settings)
    parts = {
        split: [part for result in results for part in parts_from_json(result["splits"][split])]
        for split in stages.SPLITS
    }
    return tally, parts


def _check_first_records(job: Job) -> None:
    """Refuse a wrong format or field name before any work is done: not one of the first records can be read."""
    tally = Tally()
    for record in islice(read_piece(job.sources, job.pieces[0], job.settings), _FIRST_RECORDS):
        tally.counts["records"] += 1
        if isinstance(record, Bad):
            tally.counts["bad records"] += 1
            tally.drop_page(f"bad record: {record.reason}", record.where, record.excerpt)
    if tally.counts["bad records"] == tally.counts["records"]:
        _check_bad_records(tally, job.settings)


def _check_bad_records(tally: Tally, settings: Settings) -> None:
    records, bad = tally.counts["records"], tally.counts["bad records"]
    if bad <= max(_FEW, settings.bad_share * records) and bad < max(records, 1):
        return
    reasons = {rule: count for rule, count in tally.pages.items() if rule.startswith("bad record")}
    worst = max(reasons, key=lambda rule: reasons[rule])
    where = tally.examples[worst][0][0]
    raise BudgetExceeded(
        f"{bad} of {records} records are bad, most for {worst.removeprefix('bad record: ')!r} (first {where}); "
        "check --format and the field names, or allow more with --bad-share"
    )


def _check_splits(job: Job, tally: Tally, parts: dict[str, list[Part]]) -> None:
    count = {split: sum(part.documents for part in some) for split, some in parts.items()}
    if not sum(count.values()):
        worst = max(tally.pages, key=lambda rule: tally.pages[rule], default="empty input")
        raise UserError(
            f"none of the {tally.counts['pages in']} pages is left, most fell to the rule {worst!r}; "
            "give more text or another --variant (plain keeps all text)"
        )
    share = job.validation_share
    if share and not count["validation"]:
        raise UserError(
            f"none of the {count['train']} documents fell into the validation split of {share:g}; "
            "give more documents (--format lines makes one of each line), a larger --validation-share, or 0 for none"
        )
    if not count["train"]:
        raise UserError(f"all {count['validation']} documents fell into the validation split; give more documents")


def _trained(job: Job, parts: Sequence[Part], executor: Executor, progress: Progress) -> Vocabulary:
    run_stage(job, "vocabulary", partial(_train, tuple(parts)), 1, executor, progress)
    return Vocabulary(job.work.read("vocabulary/sentencepiece.model"), job.settings.extra_ids)


def _train(parts: tuple[Part, ...], job: Job, task: int) -> dict[str, Any]:
    """Train on the parts, or on a part out of every so many where the corpus is larger than the sample."""
    stride = -(-sum(part.bytes for part in parts) // job.settings.vocabulary_sample)
    texts = (document.text for part in parts[:: max(stride, 1)] for document in job.work.documents(part.name))
    job.work.write("vocabulary/sentencepiece.model", train_vocabulary(texts, job.settings.vocabulary_size))
    return {}


def _commit(
    job: Job,
    request: Request,
    fingerprint: str,
    tally: Tally,
    written: list[dict[str, Any]],
    vocabulary: Vocabulary,
    ignored: list[str],
) -> Prepared:
    output, settings = job.output, job.settings
    splits: dict[str, list[Shard]] = {}
    for result in written:
        splits.setdefault(result["split"], []).append(Shard(**result["shard"]))
    index = CorpusIndex(
        version=VERSION,
        kind=cast(Kind, settings.kind),
        splits={split: tuple(shards) for split, shards in splits.items()},
        vocabulary=vocabulary.fingerprint,
        pipeline=settings.fingerprint(),
    )
    report = build_report(job, tally, written, index, vocabulary, request.benchmark, ignored, fingerprint)
    output.write(MODEL, vocabulary.model)
    output.write(REPORT, json.dumps(report, indent=1, ensure_ascii=False).encode() + b"\n")
    output.write(PAGE, render_page(report).encode())
    index.save(output)
    _clear(output, index)
    return Prepared(output.url, index, report, found=False)


def _clear(output: Storage, index: CorpusIndex) -> None:
    """Remove the work folder and shards of an earlier corpus; the index stands, so a kill in here loses nothing."""
    ours = {name for shards in index.splits.values() for shard in shards for name in (shard.name, shard.sidecar)}
    for path in output.list("work/"):
        output.delete(path)
    for path in output.list("shards/"):
        if path not in ours:
            output.delete(path)
    if isinstance(output, LocalStorage):
        shutil.rmtree(Path(output.url) / "work", ignore_errors=True)


def _existing(output: Storage, fingerprint: str, overwrite: bool) -> Prepared | None:
    try:
        index = CorpusIndex.load(output)
    except Missing:
        return None
    try:
        report = json.loads(output.read(REPORT))
    except (Missing, ValueError):
        report = {}
    if report.get("fingerprint") == fingerprint:
        return Prepared(output.url, index, report, found=True)
    if not overwrite:
        raise UserError(
            f"{output.url} holds a corpus made from other inputs or settings; "
            "choose another --output, or replace it with --overwrite"
        )
    output.delete("index.json")
    return None


def _fingerprint(request: Request, sources: Sequence[Source]) -> str:
    """SHA-256 of all that decides the corpus: settings, inputs (name, size, tag), vocabulary, benchmark."""
    content = {
        "settings": request.settings.fingerprint(),
        "inputs": [[source.name, source.size, source.etag, source.format] for source in sources],
        "vocabulary": request.vocabulary.fingerprint if request.vocabulary else None,
        "benchmark": request.benchmark.fingerprint() if request.benchmark else None,
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
