"""The language filter: langdetect's answers, always the same, at the threshold."""

from __future__ import annotations

from pathlib import Path

from data.prepare.language import guess_language
from data.prepare.pipeline import prepare
from tests.data.prepare.crawl import write_json_lines
from tests.data.prepare.runs import request, small_settings, texts

ENGLISH = "The children walked home through the quiet streets, and nobody spoke until they reached the door."
GERMAN = "Die Kinder gingen durch die stillen Straßen nach Hause, und niemand sprach, bis sie an der Tür waren."
FRENCH = "Les enfants rentraient par les rues tranquilles, et personne ne parla avant d'arriver à la porte."


def test_guesses_do_not_change() -> None:
    guesses = [guess_language(ENGLISH + " " + GERMAN) for _ in range(5)]
    assert len(set(guesses)) == 1
    assert [(guess_language(text) or ("", 0.0))[0] for text in (ENGLISH, GERMAN, FRENCH)] == ["en", "de", "fr"]
    for text in ("", "12345 67890", "!!! ???"):
        assert guess_language(text) is None


def test_pages_of_other_or_uncertain_language_go(tmp_path: Path) -> None:
    pages = [ENGLISH, GERMAN, FRENCH, "12345.", *(f"{ENGLISH} It was day {number}." for number in range(4))]
    records = [{"text": text, "url": f"a.org/{number}"} for number, text in enumerate(pages)]
    source = write_json_lines(records, tmp_path / "in.jsonl")
    settings = small_settings("unfiltered", language="en", validation_share=0.0)
    report = prepare(request(source, tmp_path / "out", settings)).report
    assert report["pages_by_rule"] == {"other language": 3}
    assert len(texts(tmp_path / "out")) == 5
    certain = small_settings("unfiltered", language="en", language_probability=1.1, validation_share=0.0)
    german = small_settings("unfiltered", language="de", validation_share=0.0)
    assert prepare(request(source, tmp_path / "de", german)).report["counts"]["pages out"] == 1
    try:
        prepare(request(source, tmp_path / "none", certain))
    except ValueError as error:
        assert "'uncertain language'" in str(error)
