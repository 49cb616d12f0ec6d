"""The stages that turn pieces of input into clean documents, each a pure function of (job, task number).

``urls`` → ``urls-owners`` → ``clean`` (→ ``clean-owners`` → ``cut-windows``, and the same again for lines, as the
settings say). The last of the text stages also asks for the language and deals the documents to the splits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from data.prepare import duplicates
from data.prepare.executor import Job
from data.prepare.language import guess_language
from data.prepare.readers import Bad, Page, read_piece
from data.prepare.rules import Cleaner, too_few_sentences
from data.prepare.tally import Tally
from data.prepare.urls import in_domains, is_validation, url_digest, website
from data.prepare.work import Document, PartWriter, parts_as_json

SPLITS = ("train", "validation")
_NO_OWNER = bytes(16)


def text_stage_name(job: Job, level: int) -> str:
    """The name of the text stage at a level: 0 cleans, level k cuts what the k-th kind of duplicates lost."""
    return "clean" if level == 0 else f"cut-{job.settings.duplicates[level - 1]}"


def collect_urls(job: Job, piece: int) -> dict[str, Any]:
    """Note the URL of each page that is not left out before URLs are compared."""
    rows = duplicates.Rows()
    for number, page in enumerate(read_piece(job.sources, job.pieces[piece], job.settings)):
        if isinstance(page, Page) and _early_rule(job, page) is None:
            rows.add(url_digest(page.url), _NO_OWNER, number)
    job.work.write(f"urls/{piece:06d}.rows", duplicates.by_partition(rows.table(), job.partitions))
    return {}


def find_losers(stage: str, job: Job, partition: int) -> dict[str, Any]:
    """Decide, for one range of keys, which rows that `stage` left lose their key."""
    tables = [
        job.work.read_group(f"{stage}/{piece:06d}.rows", job.partitions, partition, duplicates.ROW)
        for piece in range(len(job.pieces))
    ]
    job.work.write(f"{stage}-owners/{partition:06d}.losers", duplicates.losers(tables))
    return {"rows": sum(map(len, tables))}


def process_text(level: int, job: Job, piece: int) -> dict[str, Any]:
    """Run one text stage on a piece: clean or cut, then note duplicates for the next stage or finish the documents."""
    tally = Tally()
    stage = text_stage_name(job, level)
    documents = _cleaned(job, piece, tally) if level == 0 else _cut(job, level, piece, tally)
    if level < len(job.settings.duplicates):
        kind = job.settings.duplicates[level]
        writer = PartWriter(job.work, f"{stage}/{piece:06d}", job.settings.part_bytes)
        rows = duplicates.Rows()
        for number, document in enumerate(documents):
            writer.add(document)
            owner = url_digest(document.url)
            for unit, key in enumerate(duplicates.unit_keys(document.text, kind)):
                rows.add(key, owner, number, unit)
        job.work.write(f"{stage}/{piece:06d}.rows", duplicates.by_partition(rows.table(), job.partitions))
        return {"tally": tally.as_json(), "parts": parts_as_json(writer.close())}
    writers = {
        split: PartWriter(job.work, f"{stage}/{piece:06d}-{split}", job.settings.part_bytes) for split in SPLITS
    }
    for document in _in_language(job, documents, tally):
        held_out = is_validation(url_digest(document.url), job.validation_share)
        writers["validation" if held_out else "train"].add(document)
        tally.counts["pages out"] += 1
        tally.counts["characters out"] += len(document.text)
    return {
        "tally": tally.as_json(),
        "splits": {split: parts_as_json(writer.close()) for split, writer in writers.items()},
    }


def compares_urls(job: Job) -> bool:
    """Whether any input can hold one URL twice; plain files give each document an address of its own."""
    return any(source.format in ("jsonl", "warc") for source in job.sources)


def _early_rule(job: Job, page: Page) -> str | None:
    """The rule that leaves a page out before URLs are compared, if any."""
    longest = job.settings.longest_page
    if longest is not None and len(page.text) > longest:
        return "overlong page"
    domains = job.lists.domains
    if domains is not None and not in_domains(website(page.url), domains):
        return "not in the domains"
    return None


def _cleaned(job: Job, piece: int, tally: Tally) -> Iterator[Document]:
    cleaner: Cleaner = job.cleaner()
    repeated = _lost_documents(job, piece) if compares_urls(job) else frozenset()
    for number, page in enumerate(read_piece(job.sources, job.pieces[piece], job.settings)):
        tally.counts["records"] += 1
        if isinstance(page, Bad):
            tally.counts["bad records"] += 1
            tally.drop_page(f"bad record: {page.reason}", page.where, page.excerpt)
            continue
        tally.counts["pages in"] += 1
        tally.counts["characters in"] += len(page.text)
        rule = _early_rule(job, page)
        if rule is None and number in repeated:
            rule = "repeated URL"
        if rule is None and job.lists.urls is not None and page.url not in job.lists.urls:
            rule = "not in the URLs"
        if rule is not None:
            tally.drop_page(rule, page.url, page.text)
            continue
        text = cleaner.clean(page.url, page.text, tally)
        if text is not None:
            yield Document(page.url, text, page.timestamp, page.named)


def _cut(job: Job, level: int, piece: int, tally: Tally) -> Iterator[Document]:
    kind = job.settings.duplicates[level - 1]
    before = text_stage_name(job, level - 1)
    rule = f"duplicate {kind}"
    lost = _lost_units(job, before, piece)
    result = job.work.result(before, piece)
    assert result is not None, "a stage starts when the one before is complete"
    number = -1
    for name, _, _ in result["parts"]:
        for document in job.work.documents(name):
            number += 1
            units = lost.get(number)
            if units is None:
                yield document
                continue
            text, gone = duplicates.cut_units(document.text, kind, units)
            for line in gone:
                tally.drop_line(rule, document.url, line)
            if not text.strip() or too_few_sentences(text, job.settings.fewest_sentences):
                tally.drop_page(f"few sentences after {kind}", document.url, document.text)
                continue
            yield Document(document.url, text, document.timestamp, document.named)


def _in_language(job: Job, documents: Iterator[Document], tally: Tally) -> Iterator[Document]:
    language = job.settings.language
    for document in documents:
        if language is not None:
            guess = guess_language(document.text)
            if guess is None or guess[0] != language:
                tally.drop_page("other language", document.url, document.text)
                continue
            if guess[1] < job.settings.language_probability:
                tally.drop_page("uncertain language", document.url, document.text)
                continue
        yield document


def _lost_documents(job: Job, piece: int) -> frozenset[int]:
    found: set[int] = set()
    for partition in range(job.partitions):
        table = job.work.read_group(
            f"urls-owners/{partition:06d}.losers", len(job.pieces), piece, duplicates.LOSER
        )
        found.update(table["document"].tolist())
    return frozenset(found)


def _lost_units(job: Job, stage: str, piece: int) -> dict[int, frozenset[int]]:
    tables = [
        job.work.read_group(f"{stage}-owners/{partition:06d}.losers", len(job.pieces), piece, duplicates.LOSER)
        for partition in range(job.partitions)
    ]
    rows = np.sort(np.concatenate(tables), order=("document", "unit"))
    documents, starts = np.unique(rows["document"], return_index=True)
    groups = np.split(rows["unit"], starts[1:])
    return {int(number): frozenset(units.tolist()) for number, units in zip(documents, groups, strict=False)}
