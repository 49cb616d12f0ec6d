"""C4's cleaning rules, each a named function, in the order of the public code (release 1.0.0 and, where said, later).

A rule on lines drops the line or the whole page; a page that is left with too few sentences goes as a whole. What each
rule takes away is counted, with examples, in a :class:`~data.prepare.tally.Tally`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from data.prepare.sentences import split_sentences
from data.prepare.settings import Settings
from data.prepare.tally import Tally

END_MARKS = (".", "?", "!", '"')
ELLIPSIS = "..."
POLICY_PHRASES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")


def remove_citation_marks(line: str) -> str:
    """Delete ``[3]``, ``[]``, ``[edit]`` and ``[citation needed]``."""
    return _CITATION.sub("", line)


def has_long_word(line: str, longest: int) -> bool:
    """A word of more than `longest` characters (in the public code since 2.0)."""
    return len(line) > longest and max(map(len, line.split()), default=0) > longest


def lacks_end_mark(line: str) -> bool:
    """Not a sentence's end: no ``. ? ! "`` at the end of the line, or an ellipsis."""
    return not line.endswith(END_MARKS) or line.endswith(ELLIPSIS)


def has_few_words(line: str, fewest: int) -> bool:
    """Fewer than `fewest` words between white space (5; early prints of the paper swap this with the 3 sentences)."""
    return fewest > 0 and len(line.split(None, fewest - 1)) < fewest


def has_lorem_ipsum(line: str) -> bool:
    """Placeholder text."""
    return "lorem ipsum" in line.lower()


def mentions_javascript(line: str) -> bool:
    """A notice that scripts are off."""
    return "javascript" in line.lower()


def has_brace(line: str) -> bool:
    """A curly bracket, the mark of source code."""
    return "{" in line


def is_policy_notice(line: str) -> bool:
    """A notice about terms, privacy or cookies."""
    lowered = line.lower()
    return any(phrase in lowered for phrase in POLICY_PHRASES)


def bad_word_pattern(words: Iterable[str]) -> re.Pattern[str] | None:
    """One pattern for a list of words, each between non-letters (not a-z) or the string's ends; None for no words."""
    kept = sorted({word.strip().lower() for word in words if word.strip()}, key=lambda word: (-len(word), word))
    if not kept:
        return None
    return re.compile(rf"(?<![a-z])(?:{'|'.join(map(re.escape, kept))})(?![a-z])")


def has_bad_word(line: str, pattern: re.Pattern[str]) -> bool:
    """One of the user's bad words (any case)."""
    return pattern.search(line.lower()) is not None


@dataclass(frozen=True)
class LineRule:
    """A rule on lines: its name in the report, its test, and whether a hit drops the page rather than the line."""

    name: str
    hits: Callable[[str], bool]
    drops_page: bool = False


def line_rules(settings: Settings, bad_words: re.Pattern[str] | None) -> list[LineRule]:
    """The rules that these settings switch on, in order; citation marks are deleted after the first of them."""
    rules = []
    if settings.longest_word is not None:
        rules.append(LineRule("long word", partial(has_long_word, longest=settings.longest_word)))
    if settings.end_marks:
        rules.append(LineRule("no end mark", lacks_end_mark))
    rules += [
        LineRule("few words", partial(has_few_words, fewest=settings.fewest_words)),
        LineRule("lorem ipsum", has_lorem_ipsum, drops_page=True),
        LineRule("javascript", mentions_javascript),
        LineRule("brace", has_brace, drops_page=True),
        LineRule("policy notice", is_policy_notice),
    ]
    if bad_words is not None:
        rules.append(LineRule("bad word", partial(has_bad_word, pattern=bad_words), drops_page=True))
    return rules


class Cleaner:
    """Applies the line rules and the sentence minimum of some settings to pages, and counts what they take."""

    def __init__(self, settings: Settings, bad_words: re.Pattern[str] | None) -> None:
        self.settings = settings
        self.rules = line_rules(settings, bad_words) if settings.clean_lines else []
        self.citations_first = 1 if settings.longest_word is not None else 0

    def clean(self, url: str, text: str, tally: Tally) -> str | None:
        """The page's surviving lines joined by newlines, or None where the page is dropped.

        Without line rules the text stays as it is, but for outer white space and zero bytes.
        """
        if "\0" in text:
            tally.edit_line("zero bytes", text)
            text = text.replace("\0", " ")
        kept = self._surviving_lines(url, text, tally) if self.rules else text.strip()
        if kept is None:
            return None
        if not kept:
            tally.drop_page("no text left", url, text)
            return None
        if too_few_sentences(kept, self.settings.fewest_sentences):
            tally.drop_page("few sentences", url, kept)
            return None
        return kept

    def _surviving_lines(self, url: str, text: str, tally: Tally) -> str | None:
        lines = []
        for raw in text.split("\n"):
            line = raw.strip()
            if not line:
                continue  # blank lines are no loss worth a count
            line, rule = self._judge(line, tally)
            if rule is None:
                lines.append(line)
            elif rule.drops_page:
                tally.drop_page(rule.name, url, line)
                return None
            else:
                tally.drop_line(rule.name, url, line)
        return "\n".join(lines)

    def _judge(self, line: str, tally: Tally) -> tuple[str, LineRule | None]:
        for rule in self.rules[: self.citations_first]:
            if rule.hits(line):
                return line, rule
        if "[" in line:
            shorter = remove_citation_marks(line)
            if shorter != line:
                tally.edit_line("citation marks", line)
                line = shorter.strip()
        for rule in self.rules[self.citations_first :]:
            if rule.hits(line):
                return line, rule
        return line, None


def too_few_sentences(text: str, fewest: int) -> bool:
    """Whether the text's lines hold fewer than `fewest` sentences in total."""
    count = 0
    for line in text.split("\n"):
        if count >= fewest:
            return False
        count += len(split_sentences(line))
    return count < fewest
