"""The SuperGLUE tasks in the published records' fields (facts 5.3); WSC and DPR are among the pronoun tasks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from data.metrics import metric
from data.tasks.example import UNLABELED, Record
from data.tasks.glue import ENTAILMENT
from data.tasks.outcomes import Answers, Labels
from data.tasks.steps import Fields, Identified, LabelWord, one_to_one
from data.tasks.task import Lengths, Step, Task

LENGTHS = Lengths(inputs=512, targets=62)
TRUTH = ("False", "True")
CB = ("entailment", "contradiction", "neutral")


def questions_apart(record: Record) -> Iterator[Record]:
    """MultiRC's published record, a passage with its questions, as one record an answer; such a record stays."""
    if not isinstance(record.get("passage"), dict):
        yield record
        return
    for question in record["passage"]["questions"]:
        for answer in question["answers"]:
            yield {
                "paragraph": record["passage"]["text"],
                "question": question["question"],
                "answer": answer["text"],
                "label": answer.get("label"),
                "idx": {"paragraph": record["idx"], "question": question["idx"], "answer": answer["idx"]},
            }


@dataclass(frozen=True)
class AnswerJudged:
    """MultiRC's text: `multirc question: Q answer: A paragraph: P`; the group is the question.

    `<br>` becomes a space and `<b>` tags go, unless `markup` keeps both as the appendix prints them.
    """

    markup: bool = False
    one_to_one: ClassVar[bool] = True

    def __call__(self, record: Record) -> Record:
        values = [record[name] for name in ("question", "answer", "paragraph")]
        if not self.markup:
            values = [re.sub(r"</?b>", "", value.replace("<br>", " ")).strip() for value in values]
        question, answer, paragraph = values
        idx = record.get("idx")
        named = {}
        if isinstance(idx, dict):
            group = f"{idx['paragraph']}-{idx['question']}"
            named = {"group": group, "id": f"{group}-{idx['answer']}"}
        return {
            **record,
            **named,
            "inputs": f"multirc question: {question} answer: {answer} paragraph: {paragraph}",
        }


def queries_apart(record: Record) -> Iterator[Record]:
    """ReCoRD's published record, a passage with its queries, as one record a query; such a record stays.

    Entities and answers become sorted lists without repeats; an entity's published end is its last character.
    """
    passage = record["passage"]
    if not isinstance(passage, dict):
        yield record
        return
    text = passage["text"]
    entities = sorted({text[entity["start"] : entity["end"] + 1] for entity in passage["entities"]})
    for query in record["qas"]:
        yield {
            "passage": text,
            "query": query["query"],
            "entities": entities,
            "answers": sorted({answer["text"] for answer in query.get("answers", ())}),
            "idx": {"passage": record["idx"], "query": query["idx"]},
        }


@one_to_one
def cloze_text(record: Record) -> Record:
    """ReCoRD's text: `record query: Q entities: A, B passage: P`, the highlights run into the passage."""
    passage = re.sub(r"([.?!\"'])\n@highlight\n", r"\1 ", record["passage"])
    passage = passage.replace("\n@highlight\n", ". ")
    idx = record.get("idx")
    named = {"id": f"{idx['passage']}-{idx['query']}"} if isinstance(idx, dict) else {}
    return {
        **record,
        **named,
        "inputs": f"record query: {record['query']} entities: {', '.join(record['entities'])} passage: {passage}",
        "targets": record["answers"][0] if record["answers"] else UNLABELED,
    }


def answers_apart(record: Record) -> Iterator[Record]:
    """One training example for each correct answer, none giving one with `<unk>`."""
    for answer in record["answers"] or (UNLABELED,):
        yield {**record, "targets": answer}


def _task(
    name: str,
    steps: tuple[Step, ...],
    labels: tuple[str, ...],
    metrics: tuple[str, ...] = ("accuracy",),
    *,
    trained: bool = True,
    metric_split: str = "validation",
) -> Task:
    return Task(
        name=f"superglue_{name}",
        preprocessors=(Identified(), *steps, LabelWord(labels)),
        lengths=LENGTHS,
        outcome=Labels(labels),
        metrics=tuple(metric(each) for each in metrics),
        trained=trained,
        metric_split=metric_split,
    )


def tasks(appendix: bool = False) -> list[Task]:
    """All tasks but the pronoun ones, as the code writes them or as the paper's appendix prints them."""
    pair = ("hypothesis", "premise")
    word = ("pos", "sentence1", "sentence2", "word") if appendix else ("sentence1", "sentence2", "word")
    choices = TRUTH if appendix else ("choice1", "choice2")
    return [
        _task("boolq", (Fields("boolq", ("passage", "question")),), TRUTH),
        _task("cb", (Fields("cb", pair),), CB, ("macro_f1", "accuracy")),
        _task("copa", (Fields("copa", ("choice1", "choice2", "premise", "question")),), choices),
        _task("multirc", (questions_apart, AnswerJudged(markup=appendix)), TRUTH, ("f1", "group_exact_match")),
        Task(
            name="superglue_record",
            preprocessors=(queries_apart, cloze_text, answers_apart),
            evaluation_preprocessors=(queries_apart, cloze_text),
            lengths=LENGTHS,
            outcome=Answers(),
            metrics=(metric("question_answering_once"),),
        ),
        _task("rte", (Fields("rte", pair),), ENTAILMENT),
        _task("wic", (Fields("wic", word),), TRUTH),
        _task(
            "axb",
            (Fields("rte", pair, {"premise": "sentence1", "hypothesis": "sentence2"}),),
            ENTAILMENT,
            ("matthews",),
            trained=False,
            metric_split="test",
        ),
        _task("axg", (Fields("rte", pair),), ENTAILMENT, trained=False, metric_split="test"),
    ]
