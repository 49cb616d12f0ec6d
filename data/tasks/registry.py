"""Tasks and mixtures by unique name: the study's own, and those that users register."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from data.errors import UserError
from data.mixing import UNSUPERVISED
from data.naming import unknown
from data.tasks.corpora import CorpusSource
from data.tasks.mixture import Mixture
from data.tasks.places import within
from data.tasks.task import Task

Form = Literal["code", "appendix"]
FORMS: tuple[Form, ...] = ("code", "appendix")

_tasks: dict[Form, dict[str, Task]] = {form: {} for form in FORMS}
_mixtures: dict[str, Mixture] = {}


def add_task(task: Task, *, forms: Iterable[Form] = FORMS, replace: bool = False) -> Task:
    """Register `task` under its name, which must be free unless `replace` is set."""
    for form in forms:
        if not replace:
            _refuse_taken(task.name, form)
        _tasks[form][task.name] = task
    return task


def add_mixture(mixture: Mixture, *, replace: bool = False) -> Mixture:
    """Register `mixture` under its name, which must be free unless `replace` is set."""
    if not replace:
        for form in FORMS:
            _refuse_taken(mixture.name, form)
    _mixtures[mixture.name] = mixture
    return mixture


def _refuse_taken(name: str, form: Form) -> None:
    if name in _tasks[form] or name in _mixtures:
        kind = "mixture" if name in _mixtures else "task"
        raise UserError(f"There is already a {kind} {name!r}: give yours another name.")


def get_task(name: str, form: Form = "code") -> Task:
    """The task `name`, its text in the code's form or the paper's appendix's; unknown names are answered with near
    ones."""
    if form not in FORMS:
        raise unknown("text form", form, FORMS)
    if name not in _tasks[form]:
        raise unknown("task", name, _tasks[form])
    return _tasks[form][name]


def get_mixture(name: str) -> Mixture:
    """The mixture `name`; a task's name gives the mixture of that task alone."""
    found = resolve(name)
    return found if isinstance(found, Mixture) else Mixture(name, ((name, 1.0),))


def resolve(name: str) -> str | Mixture:
    """The mixture `name`, or the name itself where it is a task's or the unsupervised one's: a mixture's member."""
    if name in _mixtures:
        return _mixtures[name]
    if name in _tasks["code"] or name == UNSUPERVISED:
        return name
    raise unknown("task or mixture", name, [*_tasks["code"], *_mixtures])


def task_names() -> list[str]:
    """Names of all tasks, sorted."""
    return sorted(_tasks["code"])


def mixture_names() -> list[str]:
    """Names of all mixtures, sorted."""
    return sorted(_mixtures)


def located(task: Task, task_data: str | None) -> Task:
    """`task` reading its imported examples at `task_data`/NAME, unless it has a source of its own."""
    if task.source is not None or task_data is None:
        return task
    return task.with_source(CorpusSource(within(task_data, task.name)))
