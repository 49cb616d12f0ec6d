"""Each cleaning rule at its edges, and their order."""

from __future__ import annotations

import pytest

from data.prepare import rules
from data.prepare.rules import Cleaner, bad_word_pattern
from data.prepare.settings import variant_settings
from data.prepare.tally import Tally

GOOD = "The first sentence is long enough. The second one is as well. And here is the third."


def cleaned(text: str, *, bad_words: tuple[str, ...] = (), **changes: object) -> tuple[str | None, Tally]:
    tally = Tally()
    cleaner = Cleaner(variant_settings("c4", **changes), bad_word_pattern(bad_words))
    return cleaner.clean("a.org", text, tally), tally


@pytest.mark.parametrize(
    ("line", "dropped"),
    [
        ("ends with a stop.", False),
        ("ends with a question?", False),
        ("ends with a shout!", False),
        ('ends with a quote"', False),
        ("ends with a curly quote”", True),
        ("ends with nothing", True),
        ("ends with a colon:", True),
        ("ends with dots...", True),
        ("ends with four dots....", True),
        ("ends with two dots..", False),
        ("ends with one sign…", True),
        ("", True),
    ],
)
def test_end_mark(line: str, dropped: bool) -> None:
    assert rules.lacks_end_mark(line) is dropped


@pytest.mark.parametrize(("words", "dropped"), [(4, True), (5, False), (6, False), (0, True)])
def test_few_words(words: int, dropped: bool) -> None:
    assert rules.has_few_words(" \t ".join(["word"] * words), 5) is dropped


@pytest.mark.parametrize(("length", "dropped"), [(999, False), (1000, False), (1001, True)])
def test_long_word(length: int, dropped: bool) -> None:
    assert rules.has_long_word("a " + "x" * length + " b", 1000) is dropped
    assert not rules.has_long_word("word " * 400, 1000)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Built in 1900.[12]", "Built in 1900."),
        ("Built[] in [1][2]1900.", "Built in 1900."),
        ("History[edit]", "History"),
        ("He did so.[citation needed]", "He did so."),
        ("An array[i] and [note 3] stay.", "An array[i] and [note 3] stay."),
        ("Any [Edit] stays.", "Any [Edit] stays."),
    ],
)
def test_citation_marks(line: str, expected: str) -> None:
    assert rules.remove_citation_marks(line) == expected


def test_phrases_in_any_case() -> None:
    assert rules.has_lorem_ipsum("Some LOREM Ipsum text.")
    assert not rules.has_lorem_ipsum("Lorem and ipsum.")
    assert rules.mentions_javascript("Turn JavaScript on.")
    assert not rules.mentions_javascript("A script in Java.")
    for phrase in rules.POLICY_PHRASES:
        assert rules.is_policy_notice(f"Read our {phrase.upper()} now.")
    assert not rules.is_policy_notice("Cookies are good with milk, and that is our policy on privacy.")


@pytest.mark.parametrize(
    ("line", "hit"),
    [
        ("A darn shame.", True),
        ("DARN!", True),
        ("darn", True),
        ("a darn1 b", True),
        ("pre-darn-post", True),
        ("darned thing", False),
        ("undarn it", False),
        ("the hot potato fell", True),
        ("the hot  potato fell", False),
        ("C++ code", True),
        ("éDarn", True),
    ],
)
def test_bad_words_stand_between_non_letters(line: str, hit: bool) -> None:
    pattern = bad_word_pattern(["Darn", "hot potato", "c++", " ", "darn"])
    assert pattern is not None
    assert rules.has_bad_word(line, pattern) is hit


def test_no_bad_words_no_pattern() -> None:
    assert bad_word_pattern(["", "  "]) is None


def test_lines_are_stripped_and_joined() -> None:
    text, tally = cleaned(f"\n  {GOOD}\t\r\n\n  Menu \n{GOOD}\n")
    assert text == f"{GOOD}\n{GOOD}"
    assert tally.lines == {"no end mark": 1}


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("Lorem ipsum is what fills this line here.", "lorem ipsum"),
        ("This line holds a { bracket for once.", "brace"),
        ("This line holds a darn bad word here.", "bad word"),
    ],
)
def test_some_rules_drop_the_page(line: str, rule: str) -> None:
    text, tally = cleaned(f"{GOOD}\n{line}\n{GOOD}", bad_words=("darn",))
    assert text is None
    assert tally.pages == {rule: 1}
    assert tally.examples[rule] == [["a.org", line]]


def test_what_an_earlier_rule_dropped_harms_no_page() -> None:
    harmless = ["{ lorem ipsum darn", "Lorem ipsum darn {.", "Enable javascript { darn } to read this page."]
    text, tally = cleaned("\n".join([GOOD, *harmless]), bad_words=("darn",))
    assert text == GOOD
    assert tally.lines == {"no end mark": 1, "few words": 1, "javascript": 1}


def test_lorem_ipsum_is_asked_before_javascript_and_the_brace_after() -> None:
    _, tally = cleaned(f"{GOOD}\nThe lorem ipsum in javascript has four words more.")
    assert tally.pages == {"lorem ipsum": 1}


def test_citation_marks_go_before_the_end_mark_and_the_words_are_judged() -> None:
    line = "It was built by the river.[3]"
    text, tally = cleaned(f"{GOOD}\n{line}\nIt [1] [2] was there.")
    assert text == f"{GOOD}\nIt was built by the river."
    assert tally.edits == {"citation marks": 2}
    assert tally.lines == {"few words": 1}


@pytest.mark.parametrize(("sentences", "kept"), [(2, False), (3, True)])
def test_three_sentences_a_page(sentences: int, kept: bool) -> None:
    text, tally = cleaned("\n".join(["This is a sentence of seven words."] * sentences))
    assert (text is not None) is kept
    assert tally.pages == ({} if kept else {"few sentences": 1})


def test_a_page_without_text() -> None:
    for text in ("", " \n\t\n", "Menu\nHome"):
        result, tally = cleaned(text)
        assert result is None
        assert tally.pages == {"no text left": 1}


def test_rules_can_be_switched_off() -> None:
    line = "x" * 1001 + " and four words more"
    text, _ = cleaned(line, longest_word=None, end_marks=False, fewest_words=2, fewest_sentences=1)
    assert text == line


def test_without_line_rules_the_text_stays_but_for_zero_bytes() -> None:
    text, tally = cleaned("  a[1]\n\n {b}\0 ", clean_lines=False, fewest_sentences=0)
    assert text == "a[1]\n\n {b}"
    assert tally.edits == {"zero bytes": 1}


def test_tallies_add_up_and_keep_the_first_examples() -> None:
    total = Tally()
    for number in range(4):
        tally = Tally()
        for place in range(3):
            tally.drop_page("brace", f"{number}.{place}", "x" * 1000)
        total.add(Tally.from_json(tally.as_json()))
    assert total.pages == {"brace": 12}
    assert [url for url, _ in total.examples["brace"]] == ["0.0", "0.1", "0.2", "1.0", "1.1"]
    assert all(len(text) == 301 for _, text in total.examples["brace"])
