"""SQuAD's JSON, CNN/DailyMail's stories with their lists, and WMT's parallel text (plain, gzip or SGM)."""

from __future__ import annotations

import hashlib
import html
import itertools
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from data.errors import UserError
from data.tasks.files import Row
from data.tasks.generation import TRANSLATIONS, answered_apart
from data.tasks.published.rows import Splits, existing, lines_of

SQUAD_FILES = {
    "train": ("train-v1.1.json", "train.json"),
    "validation": ("dev-v1.1.json", "dev.json", "validation.json"),
}
STORY_LISTS = {
    "train": ("all_train.txt", "url_lists/all_train.txt"),
    "validation": ("all_val.txt", "url_lists/all_val.txt"),
    "test": ("all_test.txt", "url_lists/all_test.txt"),
}
SENTENCE_ENDS = (".", "!", "?", "'", "`", '"', "’", "”", ")")
HELD_OUT = {
    "wmt_ende": {"validation": "newstest2013", "test": "newstest2014"},
    "wmt_enfr": {"validation": "newstest2014", "test": "newsdiscusstest2015"},
    "wmt_enro": {"validation": "newsdev2016", "test": "newstest2016"},
}
"""The held-out set of each split, by the word that its file names hold."""


def squad(folder: Path) -> Splits:
    """SQuAD 1.1's two files."""
    return {split: partial(squad_rows, path) for split, path in existing(folder, SQUAD_FILES).items()}


def squad_rows(path: Path) -> Iterator[Row]:
    """One row a question."""
    try:
        articles = json.loads(path.read_bytes())["data"]
        for number, article in enumerate(articles):
            for record in answered_apart(article):
                yield Row(f"{path}, article {number}, question {record['id']}", record)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not SQuAD's published JSON ({error!r}): download it again.") from None


def stories(folder: Path) -> Splits:
    """CNN/DailyMail's splits: lists of addresses whose SHA-1 names a story in a folder `stories` below."""
    lists = existing(folder, STORY_LISTS)
    found = {path.stem: path for path in sorted(folder.rglob("*.story"))}
    if not found:
        raise UserError(f"{folder} holds no .story files: unpack cnn_stories.tgz and dailymail_stories.tgz there.")
    return {split: partial(story_rows, path, found) for split, path in lists.items()}


def story_rows(path: Path, found: dict[str, Path]) -> Iterator[Row]:
    """One row an address of the list; a missing story, and one without article or highlights, is a problem."""
    for number, address in enumerate(lines_of(path), 1):
        where = f"{path}, line {number}"
        name = hashlib.sha1(address.strip().encode()).hexdigest()
        if name not in found:
            yield Row(where, problem=f"there is no story {name}.story for {address}")
            continue
        article, highlights = story(lines_of(found[name]))
        if not article or not highlights:
            yield Row(where, problem=f"{found[name]} has no {'highlights' if article else 'article'}")
            continue
        yield Row(where, {"article": article, "highlights": highlights, "id": name})


def story(lines: Iterator[str]) -> tuple[str, str]:
    """Article (lines joined by spaces) and highlights (one a line); a line without an end mark gets " ."."""
    article: list[str] = []
    highlights: list[str] = []
    highlight = False
    for line in (line.strip() for line in lines):
        if not line:
            continue
        if line.startswith("@highlight"):
            highlight = True
            continue
        ended = line if line.endswith(SENTENCE_ENDS) else f"{line} ."
        (highlights if highlight else article).append(ended)
    return " ".join(article), "\n".join(highlights)


def translation(task: str, folder: Path) -> Splits:
    """WMT's splits: every pair of files `NAME.en` and `NAME.XX` (or SGM source and reference) in `folder`.

    A pair whose name holds the task's validation or test set goes there, other newstests are left out, and the rest
    is for training.
    """
    code = TRANSLATIONS[task.removeprefix("wmt_")][0]
    pairs = _pairs(folder, code)
    splits: dict[str, list[tuple[Path, Path]]] = {}
    for english, other in pairs:
        held_out = [split for split, word in HELD_OUT[task].items() if word in english.name]
        if held_out or not re.search(r"news(test|dev|discuss)", english.name):
            splits.setdefault(held_out[0] if held_out else "train", []).append((english, other))
    if not splits:
        raise UserError(f"{folder} holds no parallel text NAME.en with NAME.{code}: give the folder that does.")
    return {split: partial(parallel_rows, members, code) for split, members in splits.items()}


def _pairs(folder: Path, code: str) -> list[tuple[Path, Path]]:
    pairs = []
    for english in sorted(folder.rglob("*")):
        match = re.fullmatch(r"(.+)\.en(\.gz|\.sgm)?", english.name)
        if match is None:
            continue
        stem, ending = match.group(1), match.group(2) or ""
        names = [f"{stem}.{code}{ending}"]
        if ending == ".sgm":
            # The set translated from the other language has the roles of source and reference exchanged.
            swapped = re.sub("-(src|ref)$", lambda m: "-ref" if m.group(1) == "src" else "-src", stem)
            names.append(f"{swapped}.{code}{ending}")
        pairs += [(english, english.with_name(name)) for name in names if english.with_name(name).is_file()]
    return pairs


def parallel_rows(pairs: list[tuple[Path, Path]], code: str) -> Iterator[Row]:
    """One row a line of each pair; files of unequal length are refused, an empty side is a problem."""
    for english, other in pairs:
        segments = _segments if english.suffix == ".sgm" else lines_of
        lines = itertools.zip_longest(segments(english), segments(other))
        for number, (source, target) in enumerate(lines, 1):
            if source is None or target is None:
                longer, shorter = (other, english) if source is None else (english, other)
                raise UserError(f"{longer} goes on after line {number - 1}, where {shorter} ends: pair equal files.")
            where = f"{english}, line {number}"
            if source.strip() and target.strip():
                yield Row(where, {"en": source.strip(), code: target.strip()})
            else:
                yield Row(where, problem="one of its sides is empty")


def _segments(path: Path) -> Iterator[str]:
    """The segments of an SGM file, in order, with character entities resolved."""
    text = "\n".join(lines_of(path))
    for segment in re.findall(r"<seg[^>]*>(.*?)</seg>", text, re.DOTALL | re.IGNORECASE):
        yield html.unescape(" ".join(segment.split()))
