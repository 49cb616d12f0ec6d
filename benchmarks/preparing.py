"""`data.prepare` on one core beside a plain loop with the same rules: megabytes of input a second of processor time."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import langdetect
from langdetect.lang_detect_exception import LangDetectException

from benchmarks.common import alternate, timed
from benchmarks.corpora import Text
from data.prepare.duplicates import cut_units, unit_keys
from data.prepare.pipeline import Request, prepare
from data.prepare.rules import Cleaner, too_few_sentences
from data.prepare.settings import Settings, variant_settings
from data.prepare.tally import Tally
from data.prepare.urls import is_validation, url_digest

PAGES_BYTES = 4e6
SHARE = 0.05


def beside_plain_loop(text: Text, rounds: int) -> dict[str, float]:
    """Rates with the language filter and without it, in bytes a second of processor time, and the documents left."""
    pages = _write_pages(text)
    with_filter, without = (_rates(text, pages, language, rounds) for language in ("en", None))
    found = with_filter | {f"{name}_without_language": value for name, value in without.items()}
    return {"input_bytes": float(pages.stat().st_size), **found}


def _rates(text: Text, pages: Path, language: str | None, rounds: int) -> dict[str, float]:
    settings = variant_settings("c4", language=language, validation_share=SHARE, partition_bytes=1 << 30)
    cleaner, size = Cleaner(settings, None), float(pages.stat().st_size)
    kept: dict[str, float] = {}

    def ours() -> float:
        output = text.folder / "prepared-again"
        shutil.rmtree(output, ignore_errors=True)
        done = prepare(Request((str(pages),), str(output), settings, vocabulary=text.vocabulary))
        kept["ours_documents"] = sum(shard.records for shards in done.index.splits.values() for shard in shards)
        return size

    def plain() -> float:
        kept["plain_documents"] = _plain_loop(pages, text, cleaner)
        return size

    rates = alternate({"ours": timed(ours), "plain": timed(plain)}, rounds)
    return {who: rate.cpu for who, rate in rates.items()} | kept


def _write_pages(text: Text) -> Path:
    """The first documents as web pages in JSON lines, as C4 is published, each line ended as a sentence."""
    file, size = text.folder / "pages.jsonl", 0
    with file.open("w") as out:
        for number, document in enumerate(text.documents):
            lines = "\n".join(line.rstrip(" .") + "." for line in document.split("\n") if line.strip())
            page = {"url": f"https://example.org/{number}", "text": lines, "timestamp": "2019-04-25"}
            size += out.write(json.dumps(page) + "\n")
            if size > PAGES_BYTES:
                break
    return file


def _plain_loop(pages: Path, text: Text, cleaner: Cleaner) -> int:
    """One pass as one would write it: sets in memory, langdetect's own detector, webdataset's writer."""
    # It brings torch along, which would count as memory of readers that are started from this program.
    import webdataset

    urls, windows, kept = set[str](), set[bytes](), 0
    langdetect.DetectorFactory.seed = 0
    with ExitStack() as stack:
        files = [stack.enter_context((text.folder / f"plain-{held}.tar").open("wb")) for held in range(2)]
        writers = [stack.enter_context(webdataset.TarWriter(file)) for file in files]
        for line in stack.enter_context(pages.open()):
            page = json.loads(line)
            if page["url"] in urls or len(page["text"]) > (cleaner.settings.longest_page or len(page["text"])):
                continue
            urls.add(page["url"])
            cleaned = cleaner.clean(page["url"], page["text"], Tally())
            if cleaned is None:
                continue
            keys = list(unit_keys(cleaned, "windows"))
            repeated = frozenset(unit for unit, key in enumerate(keys) if key in windows)
            windows.update(keys)
            if repeated:
                cleaned, _ = cut_units(cleaned, "windows", repeated)
            if repeated and (not cleaned.strip() or too_few_sentences(cleaned, cleaner.settings.fewest_sentences)):
                continue
            if not _in_language(cleaned, cleaner.settings):
                continue
            tokens = len(text.vocabulary.encode(cleaned))
            record = {"__key__": f"{kept:08d}", "txt": cleaned, "json": {"tokens": tokens}}
            writers[is_validation(url_digest(page["url"]), SHARE)].write(record)
            kept += 1
    return kept


def _in_language(text: str, settings: Settings) -> bool:
    if settings.language is None:
        return True
    try:
        guess = langdetect.detect_langs(text)[0]
    except LangDetectException:
        return False
    return bool(guess.lang == settings.language and guess.prob >= settings.language_probability)
