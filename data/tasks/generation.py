"""Tasks whose target is free text: SQuAD, CNN/DailyMail and the three WMT translations (facts 5.5)."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from data.metrics import metric
from data.tasks.example import UNLABELED, Record
from data.tasks.outcomes import Answers
from data.tasks.steps import Identified, Template, one_to_one
from data.tasks.task import Lengths, Task

_PUNCTUATION = re.compile(f"([{re.escape(string.punctuation)}])")
TRANSLATIONS = {"ende": ("de", "German"), "enfr": ("fr", "French"), "enro": ("ro", "Romanian")}


def spaced(text: str) -> str:
    """A space on both sides of each ASCII punctuation sign, white space collapsed."""
    return collapsed(_PUNCTUATION.sub(r" \1 ", text))


def collapsed(text: str) -> str:
    """White space as single spaces, none at the ends."""
    return " ".join(text.split())


def answered_apart(record: Record) -> Iterator[Record]:
    """An article of SQuAD's published JSON as one record a question; such a record stays."""
    if "paragraphs" not in record:
        yield record
        return
    for paragraph in record["paragraphs"]:
        for question in paragraph["qas"]:
            yield {
                "id": question["id"],
                "context": paragraph["context"],
                "question": question["question"],
                "answers": [answer["text"] for answer in question.get("answers", ())],
            }


@dataclass(frozen=True)
class Span:
    """SQuAD's text `question: Q context: C` with the first listed answer as target.

    The code's form spaces punctuation; the appendix prints the text as it is.
    """

    spaced: bool = True
    one_to_one: ClassVar[bool] = True

    def __call__(self, record: Record) -> Record:
        clean = spaced if self.spaced else collapsed
        answers = record["answers"]
        texts = answers["text"] if isinstance(answers, dict) else answers
        answers = [clean(text) for text in texts]
        return {
            **record,
            "inputs": f"question: {clean(record['question'])} context: {clean(record['context'])}",
            "targets": answers[0] if answers else UNLABELED,
            "answers": answers,
        }


@one_to_one
def highlights_joined(record: Record) -> Record:
    """CNN/DailyMail's highlights as one line of text, since the vocabulary has no line break."""
    return {**record, "article": collapsed(record["article"]), "highlights": collapsed(record["highlights"])}


@one_to_one
def languages_flat(record: Record) -> Record:
    """A pair held under `translation`, as table files of WMT hold it, beside the other fields."""
    return {**record, **record["translation"]} if isinstance(record.get("translation"), dict) else record


def tasks(appendix: bool = False) -> list[Task]:
    """SQuAD, the summaries and the translations."""
    found = [
        Task(
            name="squad",
            preprocessors=(answered_apart, Span(spaced=not appendix)),
            lengths=Lengths(inputs=512, targets=97),
            outcome=Answers(),
            metrics=(metric("question_answering"),),
            best=("exact_match",),
        ),
        Task(
            name="cnn_dailymail",
            preprocessors=(Identified(("id",)), highlights_joined, Template("summarize: {article}", "{highlights}")),
            metrics=(metric("rouge"),),
            best=("rouge2",),
        ),
    ]
    for pair, (code, language) in TRANSLATIONS.items():
        found.append(
            Task(
                name=f"wmt_{pair}",
                preprocessors=(
                    languages_flat,
                    Template(f"translate English to {language}: {{en}}", f"{{{code}}}"),
                ),
                metrics=(metric("bleu"),),
            )
        )
    return found
