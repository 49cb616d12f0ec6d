"""The last stages: documents into shards, in the order of the input, as text or as 16-bit ids.

The order of the input is kept because training permutes blocks and the records inside them anyway, and because a
book stays a book. A shard is a run of whole parts, so its bounds follow from the pieces alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data.corpus import ShardWriter
from data.prepare.executor import Job
from data.prepare.overlap import Benchmark
from data.prepare.urls import top_level_domain, url_digest, website
from data.prepare.work import Document, Part
from data.vocabulary import Vocabulary

# Each shard reports its largest websites only, and the rest in sum.
_SITES = 2_000
REST = "(other)"
UNNAMED = "(no URL)"


@dataclass(frozen=True)
class ShardPlan:
    """One shard to write: its split, its number there, and the parts it holds."""

    split: str
    number: int
    parts: tuple[Part, ...]


def plan_shards(parts: Mapping[str, Sequence[Part]], shard_bytes: int) -> list[ShardPlan]:
    """Runs of parts of at least `shard_bytes` of text (the last of a split: what is left)."""
    plans: list[ShardPlan] = []
    for split, available in parts.items():
        taken: list[Part] = []
        number = 0
        for part in available:
            taken.append(part)
            if sum(one.bytes for one in taken) >= shard_bytes:
                plans.append(ShardPlan(split, number, tuple(taken)))
                taken, number = [], number + 1
        if taken:
            plans.append(ShardPlan(split, number, tuple(taken)))
    return plans


@dataclass(frozen=True)
class WriteShard:
    """The stage that writes shards: task number n writes the n-th of the plans."""

    plans: tuple[ShardPlan, ...]
    vocabulary: Vocabulary
    benchmark: Benchmark | None

    def __call__(self, job: Job, task: int) -> dict[str, Any]:
        plan = self.plans[task]
        seen = _Seen()
        with ShardWriter(job.output, plan.split, plan.number) as writer:
            for part in plan.parts:
                documents = list(job.work.documents(part.name))
                all_ids = self.vocabulary.encode_batch([document.text for document in documents])
                for document, ids in zip(documents, all_ids, strict=True):
                    seen.add(document, len(ids))
                    if self.benchmark is not None:
                        seen.overlaps += self.benchmark.matches(document.url, document.text)
                    members = {"ids": ids.tobytes()} if job.settings.kind == "ids" else _text_members(document)
                    writer.add(url_digest(document.url).hex(), members, len(ids))
            shard = writer.close()
        return {"split": plan.split, "shard": asdict(shard), **seen.as_json()}


def _text_members(document: Document) -> dict[str, bytes]:
    members = {"txt": document.text.encode()}
    if document.named:
        about = {"url": document.url, "timestamp": document.timestamp}
        members["json"] = json.dumps(about, ensure_ascii=False).encode()
    return members


class _Seen:
    """What the report wants to know about the documents of a shard."""

    def __init__(self) -> None:
        self.sites: dict[str, list[int]] = {}
        self.domains: dict[str, list[int]] = {}
        self.lengths: Counter[int] = Counter()
        self.overlaps: list[list[Any]] = []

    def add(self, document: Document, tokens: int) -> None:
        site = website(document.url) if document.named else ""
        for table, name in ((self.sites, site), (self.domains, top_level_domain(site))):
            row = table.setdefault(name or UNNAMED, [0, 0])
            row[0] += 1
            row[1] += tokens
        self.lengths[tokens.bit_length()] += 1

    def as_json(self) -> dict[str, Any]:
        return {
            "sites": largest(self.sites, _SITES),
            "domains": largest(self.domains, _SITES),
            "lengths": {str(bits): count for bits, count in sorted(self.lengths.items())},
            "overlaps": self.overlaps,
        }


def largest(table: dict[str, list[int]], count: int) -> dict[str, list[int]]:
    """The rows (pages, tokens) with most tokens, at most `count`, and the sum of all others under REST."""
    ranked = sorted(table.items(), key=lambda row: (row[0] == REST, -row[1][1], row[0]))
    kept = dict(ranked[:count])
    if len(ranked) > count:
        rest = kept.setdefault(REST, [0, 0])
        for _, (pages, tokens) in ranked[count:]:
            rest[0] += pages
            rest[1] += tokens
    return kept
