"""Tasks and mixtures with seqio's nouns: the study's own ones are registered, users add theirs."""

from __future__ import annotations

from data.tasks import generation, glue, pronouns, study, superglue
from data.tasks.corpora import CorpusSource
from data.tasks.declared import load
from data.tasks.example import Example, Record
from data.tasks.mixture import Mixture
from data.tasks.registry import (
    FORMS,
    add_mixture,
    add_task,
    get_mixture,
    get_task,
    located,
    mixture_names,
    task_names,
)
from data.tasks.sources import FileSource, Source
from data.tasks.task import Encoded, Lengths, Task

__all__ = [
    "CorpusSource",
    "Encoded",
    "Example",
    "FileSource",
    "Lengths",
    "Mixture",
    "Record",
    "Source",
    "Task",
    "add_mixture",
    "add_task",
    "get_mixture",
    "get_task",
    "load",
    "located",
    "mixture_names",
    "task_names",
]

for _form in FORMS:
    _appendix = _form == "appendix"
    for _task in [*glue.tasks(), *superglue.tasks(_appendix), *pronouns.tasks(), *generation.tasks(_appendix)]:
        add_task(_task, forms=(_form,))

for _mixture in (
    study.MULTITASK,
    study.SUPERVISED,
    study.PRONOUNS,
    study.TARGETS["glue"].mixture,
    study.TARGETS["superglue"].mixture,
):
    add_mixture(_mixture)
