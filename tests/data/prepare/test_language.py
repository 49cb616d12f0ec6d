"""The language filter: langdetect's answers, always the same, at the threshold."""

from __future__ import annotations

import random
from pathlib import Path

import langdetect
import pytest

from data.errors import UserError
from data.prepare.detector import FastDetectors
from data.prepare.language import guess_language
from data.prepare.pipeline import prepare
from tests.data.prepare.crawl import write_json_lines
from tests.data.prepare.runs import request, small_settings, texts

ENGLISH = "The children walked home through the quiet streets, and nobody spoke until they reached the door."
GERMAN = "Die Kinder gingen durch die stillen Straßen nach Hause, und niemand sprach, bis sie an der Tür waren."
FRENCH = "Les enfants rentraient par les rues tranquilles, et personne ne parla avant d'arriver à la porte."


ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz ", "ABCDEabcde .,1\n", "éüßñçãøåÉÜ ", "абвгдежзик ", "你好世界日本語カナひらが ",
    "한국어 텍스트 ",
    "العربية فارسی ", "ệăơẤ ", "șțĐđ’‘“ ", "\U0001f600\u0300 [\\]^_`",
)  # fmt: skip


def test_guesses_are_those_of_langdetect_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(langdetect.DetectorFactory, "seed", 0)
    rng = random.Random(5)
    texts = [ENGLISH, GERMAN, FRENCH, ENGLISH * 200, "See http://a.org/b?c or x@a.org  now", "USA IBMs", "a", ""]
    for _ in range(150):
        letters = "".join(rng.sample(ALPHABETS, rng.randint(1, 3)))
        texts.append("".join(rng.choice(letters) for _ in range(rng.randint(0, 120))))
    fast = FastDetectors()
    for text in texts:
        try:
            expected = [(guess.lang, guess.prob) for guess in langdetect.detect_langs(text)]
        except langdetect.LangDetectException:
            expected = []
        try:
            found = fast.guesses(text)
        except langdetect.LangDetectException:
            found = []
        assert found == expected, text


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
    with pytest.raises(UserError, match=r"'other language'|'uncertain language'"):
        prepare(request(source, tmp_path / "none", certain))
