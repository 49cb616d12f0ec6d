"""The majority-class baseline: what a score must beat to mean that something was learned."""

from __future__ import annotations

from collections import Counter

from data.tasks.outcomes import Labels, Number
from data.tasks.pronouns import Referent
from data.tasks.task import Task


def majority(task: Task, split: str = "validation") -> dict[str, float] | None:
    """Results on `split` of always answering its commonest class: the best that a constant answer can do.

    A number (STS-B) answered by a constant has correlations of 0. None where outputs are free text, which has no
    majority class.
    """
    outcome = task.outcome
    if not isinstance(outcome, Labels | Number | Referent):
        return None
    examples = list(task.examples(split, evaluate=True))
    references = [outcome.reference(example) for example in examples]
    # Ties go to the smaller class, so that the baseline does not depend on the order of records.
    common = min(Counter(references).items(), key=lambda item: (-item[1], item[0]))[0]
    groups = [example.group or example.id for example in examples]
    return task.judge(references, [common] * len(references), groups)
