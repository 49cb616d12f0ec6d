"""C4 in one plain loop over pages in memory, written apart from the product: what the tests compare with."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict

from data.prepare.sentences import split_sentences


def normalize(url: str) -> str:
    for scheme in ("http://", "https://"):
        if url.startswith(scheme):
            url = url[len(scheme) :]
            if url.startswith("www."):
                url = url[4:]
            break
    for tail in ("?utm_", "?ref", "?feed"):
        if tail in url:
            url = url[: url.index(tail)]
    url = url.rstrip("/")
    if url.endswith("/feed"):
        url = url[: -len("/feed")].rstrip("/")
    return url


def md5(url: str) -> int:
    return int(hashlib.md5(url.encode()).hexdigest(), 16)


def clean(text: str, bad_words: tuple[str, ...] = ()) -> list[str] | None:
    kept = []
    for line in text.split("\n"):
        line = line.strip()
        if not line or any(len(word) > 1000 for word in line.split()):
            continue
        line = re.sub(r"\[[0-9]*\]|\[edit\]|\[citation needed\]", "", line).strip()
        if line[-1:] not in (".", "?", "!", '"') or line[-3:] == "...":
            continue
        if len(line.split()) < 5:
            continue
        low = line.lower()
        if "lorem ipsum" in low:
            return None
        if "javascript" in low:
            continue
        if "{" in line:
            return None
        phrases = ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"]
        if any(phrase in low for phrase in phrases):
            continue
        for word in bad_words:
            for at in range(len(low)):
                before = low[at - 1 : at] if at else ""
                after = low[at + len(word) : at + len(word) + 1]
                if low.startswith(word, at) and not re.match("[a-z]", before) and not re.match("[a-z]", after):
                    return None
        kept.append(line)
    return kept if sum(len(split_sentences(line)) for line in kept) >= 3 else None


def windows(lines: list[str]) -> list[tuple[int, int, int, str]]:
    """(line, first sentence, last sentence + 1, lower-cased text) of every window."""
    found = []
    for number, line in enumerate(lines):
        sentences = split_sentences(line)
        width = min(3, len(sentences))
        for start in range(len(sentences) - width + 1):
            text = " ".join(sentences[start : start + width]).lower()
            if text.strip('.?!" '):
                found.append((number, start, start + width, text))
    return found


def remove_windows(pages: dict[str, list[str]]) -> dict[str, list[str]]:
    holders = defaultdict(list)
    for url, lines in pages.items():
        for number, start, end, text in windows(lines):
            holders[text].append((md5(url), url, number, start, end))
    cut = defaultdict(set)
    for places in holders.values():
        for _, url, number, start, end in sorted(places)[1:]:
            cut[url].update((number, sentence) for sentence in range(start, end))
    left = {}
    for url, lines in pages.items():
        if url not in cut:
            left[url] = lines
            continue
        kept = []
        for number, line in enumerate(lines):
            if not any((number, sentence) in cut[url] for sentence in range(len(split_sentences(line)))):
                kept.append(line)
                continue
            rest = [s for place, s in enumerate(split_sentences(line)) if (number, place) not in cut[url]]
            if rest:
                kept.append(" ".join(rest))
        if sum(len(split_sentences(line)) for line in kept) >= 3:
            left[url] = kept
    return left


def remove_lines(pages: dict[str, list[str]]) -> dict[str, list[str]]:
    holders = defaultdict(list)
    for url, lines in pages.items():
        for number, line in enumerate(lines):
            holders[line.strip().lower()].append((md5(url), url, number))
    left = {}
    for url, lines in pages.items():
        kept = [
            line for number, line in enumerate(lines) if min(holders[line.strip().lower()]) == (md5(url), url, number)
        ]
        if kept == lines or sum(len(split_sentences(line)) for line in kept) >= 3:
            left[url] = kept
    return left


def c4(records: list[dict[str, str]], duplicates: tuple[str, ...] = ("windows",)) -> dict[str, str]:
    """From records with text and url to {normalized url: text}, without the language filter."""
    first: dict[str, str] = {}
    for record in records:
        if len(record["text"]) <= 190_000:
            first.setdefault(normalize(record["url"]), record["text"])
    pages = {}
    for url, text in first.items():
        lines = clean(text)
        if lines is not None:
            pages[url] = lines
    for kind in duplicates:
        pages = remove_windows(pages) if kind == "windows" else remove_lines(pages)
    return {url: "\n".join(lines) for url, lines in pages.items()}
