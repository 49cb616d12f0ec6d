"""Pronoun tasks: the pronoun marked with asterisks, its noun as the target, judged by matching nouns (facts 5.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from data.errors import UserError
from data.metrics import metric
from data.tasks import glue, superglue
from data.tasks.example import Example, Record
from data.tasks.outcomes import INVALID
from data.tasks.steps import Identified, LabelWord, one_to_one
from data.tasks.task import Task

DETERMINERS = frozenset(
    (
        "a",
        "an",
        "few",
        "her",
        "his",
        "each",
        "every",
        "many",
        "much",
        "my",
        "our",
        "some",
        "that",
        "the",
        "their",
        "these",
        "this",
        "those",
        "which",
        "whose",
        "your",
    )
)
WNLI_PRONOUNS = frozenset(("he", "she", "they", "it", "her", "his", "their", "them", "him"))
_EDGES = re.compile(r"^(\W*)(.*?)(\W*)$", re.DOTALL)
_LABEL = LabelWord(("False", "True"))


def nouns_of(text: str) -> frozenset[str]:
    """The lower-cased words of `text` less determiners."""
    return frozenset(word for word in text.lower().split() if word not in DETERMINERS)


def judged(output: str, candidate: str) -> int:
    """1 where `output` names the candidate: one's words within the other's and apostrophes alike; 0 where not.

    Output without a word that counts is -1, so that it can be right for neither label.
    """
    given, wanted = nouns_of(output), nouns_of(candidate)
    if not given:
        return INVALID
    if not wanted or any("'" in word for word in given) != any("'" in word for word in wanted):
        return 0
    return int(given <= wanted or wanted <= given)


@dataclass(frozen=True)
class Referent:
    """Whether the written noun is the candidate, which is the example's target."""

    def prediction(self, output: str, example: Example) -> int:
        return judged(output, example.targets)

    def reference(self, example: Example) -> int:
        if example.truth not in (0, 1):
            raise UserError(f"Example {example.id!r} has no label: evaluate a split that is labeled.")
        return int(example.truth)


def truth_of(record: Record) -> int:
    """The label as 0, 1 or -1 (unlabeled)."""
    return {"False": 0, "True": 1}.get(_LABEL.word(record.get("label")), -1)


@one_to_one
def spans_flat(record: Record) -> Record:
    """WSC's published record with its `target` object's fields beside the others."""
    return {**record, **record["target"]} if isinstance(record.get("target"), dict) else record


def only_true(record: Record) -> Record | None:
    """WSC's training filter: a false example's candidate is a wrong answer."""
    return record if truth_of(record) == 1 else None


@one_to_one
def winograd(record: Record) -> Record:
    """WSC's text, the word at `span2_index` (counted over single spaces) marked.

    Where another word stands there, as in a few published records, the nearest occurrence of the pronoun is marked.
    """
    words = record["text"].split(" ")
    pronoun, place = record["span2_text"], int(record["span2_index"])
    places = [i for i, word in enumerate(words) if _split(word)[1].lower() == pronoun.lower()]
    if not places:
        raise UserError(f"the text {record['text']!r} does not hold the pronoun {pronoun!r}.")
    at = min(places, key=lambda i: abs(i - place))
    words[at] = _marked(words[at])
    return {
        **record,
        "inputs": "wsc: " + " ".join(words),
        "targets": record["span1_text"],
        "truth": truth_of(record),
    }


@one_to_one
def definite_pronoun(record: Record) -> Record:
    """DPR's text, the pronoun's first occurrence between a space and a space, full stop or comma marked.

    Where there is none such, the first occurrence as a word is marked.
    """
    pronoun = re.escape(record["pronoun"])
    marked, found = re.subn(rf" ({pronoun})([ .,])", r" *\1*\2", record["sentence"], count=1)
    if not found:
        marked, found = re.subn(rf"\b({pronoun})\b", r"*\1*", record["sentence"], count=1, flags=re.IGNORECASE)
    if not found:
        raise UserError(f"the sentence {record['sentence']!r} does not hold {record['pronoun']!r}.")
    return {
        **record,
        "inputs": f"wsc: {marked}",
        "targets": record["candidates"][int(record["label"])],
    }


@one_to_one
def hypothesis_as_referent(record: Record) -> Record:
    """WNLI as WSC: the pronoun whose surroundings the hypothesis repeats is marked, the rest is the candidate."""
    words, hypothesis = record["sentence1"].split(), record["sentence2"].split()
    place, candidate = _resolved(words, hypothesis)
    words[place] = _marked(words[place])
    label = record.get("label")
    return {
        **record,
        "inputs": "wsc: " + " ".join(words),
        "targets": _noun(candidate),
        "truth": -1 if label in (None, "") else int(label),
    }


def _resolved(premise: list[str], hypothesis: list[str]) -> tuple[int, list[str]]:
    """Index of the best pronoun in `premise`, and the words of `hypothesis` that stand in its place.

    A pronoun is the better the more words around it the hypothesis repeats; the longest rest is the candidate.
    """
    folded = [_bare(word) for word in premise]
    repeated = [_bare(word) for word in hypothesis]
    best: tuple[int, int] = (-1, 0)
    place, span = -1, (0, len(hypothesis))
    for at, word in enumerate(folded):
        if word not in WNLI_PRONOUNS:
            continue
        after = [_shared(folded[at + 1 :], repeated[end:]) for end in range(len(repeated) + 1)]
        for start in range(len(repeated)):
            before = _shared(folded[:at][::-1], repeated[:start][::-1])
            for end in range(start + 1, len(repeated) + 1):
                quality = (before + after[end], end - start)
                if quality > best:
                    best, place, span = quality, at, (start, end)
    if place < 0:
        raise UserError(f"the premise {' '.join(premise)!r} holds no pronoun: it is no WNLI record.")
    return place, hypothesis[slice(*span)]


def _shared(one: list[str], other: list[str]) -> int:
    """Number of words that two lists share from their beginnings."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def _noun(words: list[str]) -> str:
    """The candidate's noun, from its last kind of article on, without end punctuation and a possessive ending."""
    folded = [word.lower() for word in words]
    start = max((folded.index(article) for article in ("a", "an", "the") if article in folded), default=0)
    return re.sub(r"['’]s?$", "", re.sub(r"[.,;:!?\"]+$", "", " ".join(words[start:])))


def _bare(word: str) -> str:
    return word.lower().rstrip(".,;:!?\"'").lstrip("\"'")


def _marked(word: str) -> str:
    """The word in asterisks, punctuation after it set apart: `him,` → `*him* ,`."""
    before, core, after = _split(word)
    return f"{before}*{core}*{f' {after}' if after else ''}"


def _split(word: str) -> tuple[str, str, str]:
    found = _EDGES.fullmatch(word)
    return (found.group(1), found.group(2), found.group(3)) if found else ("", word, "")


def tasks() -> list[Task]:
    """WSC, DPR (training only) and WNLI (never trained on: its sets are drawn against each other)."""
    winograd_steps = (Identified(), spans_flat, winograd)
    return [
        Task(
            name="superglue_wsc",
            preprocessors=(Identified(), spans_flat, only_true, winograd),
            evaluation_preprocessors=winograd_steps,
            lengths=superglue.LENGTHS,
            outcome=Referent(),
            metrics=(metric("accuracy"),),
        ),
        Task(
            name="superglue_dpr",
            preprocessors=(Identified(), definite_pronoun),
            lengths=superglue.LENGTHS,
            metric_split="",
        ),
        Task(
            name="glue_wnli",
            preprocessors=(Identified(("index", "idx")), hypothesis_as_referent),
            lengths=glue.LENGTHS,
            outcome=Referent(),
            metrics=(metric("accuracy"),),
            trained=False,
            metric_split="test",
        ),
    ]
