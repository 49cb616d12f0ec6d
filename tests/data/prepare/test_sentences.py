"""Sentence boundaries on lines written for the purpose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.prepare.sentences import split_sentences


@pytest.mark.parametrize(
    "marked",
    [
        "One. | Two! | Three? | Four",
        "Is it so?! | Yes... | Then go.",
        'He said "Stop." | Then he left.',
        "“Why?” | she asked. | Nobody knew.".replace("| she", "she"),
        "(It was late.) | We slept.",
        "Mr. Smith met Dr. Jones in St. Ives. | They talked.",
        "J. R. Smith wrote it. | It sold.",
        "So did I. | Then we went.",
        "He works for the U.S. Army now. | He is well.",
        "Use a tool, e.g. Python, or none. | Good luck.",
        "See fig. 3 and vol. 2 of it. | It is there.",
        "He came on Jan. 5 and left. | We saw him in Jan. | Nobody else did.",
        "The price is 3.50 dollars. | Cheap!",
        "Visit example.com today. | It is free.",
        "it ended. but went on.",
        "We began. | 12 of us were left.",
        "One.Two.",
        "Écoute bien. | Élan is a word.",
    ],
)
def test_boundaries(marked: str) -> None:
    parts = [part.strip() for part in marked.split("|")]
    assert split_sentences(" ".join(parts)) == parts


@pytest.mark.parametrize("line", ["", "   ", "\t"])
def test_an_empty_line_has_no_sentence(line: str) -> None:
    assert split_sentences(line) == []


@given(st.text(alphabet="aB1.?!\"') \t", max_size=60))
def test_nothing_but_white_space_is_lost(line: str) -> None:
    sentences = split_sentences(line)
    assert "".join("".join(sentences).split()) == "".join(line.split())
    assert all(sentence == sentence.strip() and sentence for sentence in sentences)
    assert [part for sentence in sentences for part in split_sentences(sentence)] == sentences
