"""The report as plain data (`report.json`): what came in, what each rule took, what the corpus holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from data.corpus import CorpusIndex
from data.prepare.executor import Job
from data.prepare.overlap import Benchmark, found_examples
from data.prepare.shards import largest
from data.prepare.tally import Tally
from data.vocabulary import Vocabulary

# In the order in which the stages ask.
PAGE_RULES = (
    "overlong page",
    "not in the domains",
    "repeated URL",
    "not in the URLs",
    "lorem ipsum",
    "brace",
    "bad word",
    "no text left",
    "few sentences",
    "few sentences after windows",
    "few sentences after lines",
    "other language",
    "uncertain language",
)
LINE_RULES = (
    "long word",
    "no end mark",
    "few words",
    "javascript",
    "policy notice",
    "duplicate windows",
    "duplicate lines",
)
_SITES = 100
_OVERLAPS = 100
_IGNORED = 20


def build_report(
    job: Job,
    tally: Tally,
    written: Sequence[dict[str, Any]],
    index: CorpusIndex,
    vocabulary: Vocabulary,
    benchmark: Benchmark | None,
    ignored: Sequence[str],
    fingerprint: str,
) -> dict[str, Any]:
    """All figures of one preparation. It holds no time and no path, so that the same work gives the same bytes."""
    counts = tally.as_json()
    bad = {rule: count for rule, count in counts["pages"].items() if rule.startswith("bad record")}
    return {
        "fingerprint": fingerprint,
        "settings": job.settings.as_json(),
        "validation_share": job.validation_share,
        "inputs": [[source.name, source.size] for source in job.sources[:_IGNORED]],
        "input_files": len(job.sources),
        "input_bytes": sum(source.size for source in job.sources),
        "ignored_files": list(ignored[:_IGNORED]),
        "ignored": len(ignored),
        "counts": counts["counts"],
        "pages_by_rule": {**bad, **_ordered(counts["pages"], PAGE_RULES)},
        "lines_by_rule": _ordered(counts["lines"], LINE_RULES),
        "lines_edited": counts["edits"],
        "examples": counts["examples"],
        "splits": {
            split: {
                "shards": len(shards),
                "documents": sum(shard.records for shard in shards),
                "tokens": sum(shard.tokens or 0 for shard in shards),
                "bytes": sum(shard.bytes for shard in shards),
            }
            for split, shards in index.splits.items()
        },
        "vocabulary": {"pieces": vocabulary.pieces, "fingerprint": vocabulary.fingerprint},
        "domains": _summed(written, "domains"),
        "sites": _summed(written, "sites"),
        "lengths": _lengths(written),
        "benchmark": None if benchmark is None else _overlaps(written, benchmark),
    }


def _ordered(counts: dict[str, int], order: Sequence[str]) -> dict[str, int]:
    return {rule: counts[rule] for rule in order if rule in counts}


def _summed(written: Sequence[dict[str, Any]], name: str) -> dict[str, list[int]]:
    total: dict[str, list[int]] = {}
    for result in written:
        for key, (pages, tokens) in result[name].items():
            row = total.setdefault(key, [0, 0])
            row[0] += pages
            row[1] += tokens
    return largest(total, _SITES)


def _lengths(written: Sequence[dict[str, Any]]) -> list[list[int]]:
    """[fewest tokens, most tokens, documents] of each bin, whose bounds are powers of two."""
    bins: Counter[int] = Counter()
    for result in written:
        bins.update({int(bits): count for bits, count in result["lengths"].items()})
    return [[(1 << bits) >> 1, (1 << bits) - 1, count] for bits, count in sorted(bins.items())]


def _overlaps(written: Sequence[dict[str, Any]], benchmark: Benchmark) -> dict[str, Any]:
    found = found_examples(match for result in written for match in result["overlaps"])
    return {
        "examples": len(benchmark.examples),
        "too_short": benchmark.too_short,
        "found": len(found),
        "matches": [
            {"example": benchmark.examples[number][:300], "url": matches[0][1], "share": matches[0][2]}
            for number, matches in list(found.items())[:_OVERLAPS]
        ],
    }
