"""Tasks and mixtures that a user declares: in YAML, about ten lines each, or in a Python module of their own.

tasks:
  reviews:
    source: {train: s3://bucket/reviews/train.jsonl, validation: validation.tsv}
    inputs: "review: {text}"
    labels: [negative, positive]
    metrics: [accuracy]
mixtures:
  mine: {reviews: 2, glue: proportional}
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from data.errors import UserError
from data.metrics import metric
from data.naming import unknown
from data.storage import open_storage
from data.tasks import registry
from data.tasks.corpora import CorpusSource
from data.tasks.files import ENDINGS
from data.tasks.mixture import Mixture
from data.tasks.outcomes import Answers, Labels, Number, Outcome, Text
from data.tasks.places import ending_in, parted, within
from data.tasks.sources import FileSource, Source
from data.tasks.steps import Identified, LabelWord, Rename, Template
from data.tasks.task import Lengths, Task

OUTCOMES: dict[str, Outcome] = {"text": Text(), "number": Number(), "answers": Answers()}
KEYS = (
    "source",
    "columns",
    "like",
    "form",
    "inputs",
    "targets",
    "labels",
    "label",
    "id",
    "group",
    "answers",
    "outcome",
    "metrics",
    "best",
    "lengths",
)
PROPORTIONAL = "proportional"

_loaded: set[str] = set()


def load(place: str) -> None:
    """Register what `place` declares: a YAML file (disk or S3), a Python file, or the name of a Python module.

    A place that was loaded before is passed over, so that each process of a run can load the same list.
    """
    if place in _loaded:
        return
    if ending_in(place, (".yaml", ".yml")):
        folder, name = parted(place)
        declare(_parsed(open_storage(folder).read(name), place), folder)
    elif place.endswith(".py"):
        _run_file(Path(place))
    else:
        _import(place)
    _loaded.add(place)


def declare(content: Mapping[str, Any], folder: str = ".") -> list[str]:
    """Register the tasks and mixtures of `content`; relative sources lie in `folder`. The names, in order."""
    _known_keys(content, ("tasks", "mixtures"), "a file of tasks")
    names = []
    for name, given in _mapping(content.get("tasks") or {}, "tasks").items():
        names.append(registry.add_task(task_of(str(name), _mapping(given, f"task {name!r}"), folder)).name)
    for name, given in _mapping(content.get("mixtures") or {}, "mixtures").items():
        names.append(registry.add_mixture(mixture_of(str(name), _mapping(given, f"mixture {name!r}"))).name)
    return names


def task_of(name: str, given: Mapping[str, Any], folder: str = ".") -> Task:
    """The task that one entry declares."""
    _known_keys(given, KEYS, f"task {name!r}")
    source = source_of(given["source"], folder, tuple(given.get("columns") or ())) if "source" in given else None
    if "like" in given:
        return _like(name, given, source)
    if "inputs" not in given or ("targets" in given) == ("labels" in given):
        raise UserError(
            f"Task {name!r} needs inputs, and either targets or labels: for instance "
            f'inputs: "{name}: {{text}}" and targets: "{{summary}}".'
        )
    if "form" in given:
        raise UserError(f"Task {name!r} has a form but is like no other task: name the one it is like.")
    steps: list[Any] = []
    renames = {new: given[new] for new in ("group", "answers") if new in given}
    if renames:
        steps.append(Rename(renames))
    if "id" in given:
        steps.append(Identified((str(given["id"]),)))
    outcome: Outcome = OUTCOMES["answers" if "answers" in given else "text"]
    if "labels" in given:
        words = _words(name, given["labels"])
        steps += [Template(given["inputs"]), LabelWord(words, str(given.get("label", "label")))]
        outcome = Labels(words)
    else:
        steps.append(Template(given["inputs"], given["targets"]))
    if "outcome" in given:
        if given["outcome"] not in OUTCOMES:
            raise unknown("outcome", str(given["outcome"]), OUTCOMES, where=f"task {name!r}")
        outcome = OUTCOMES[given["outcome"]]
    return Task(
        name=name,
        preprocessors=tuple(steps),
        source=source,
        lengths=_lengths(name, given),
        outcome=outcome,
        metrics=tuple(metric(str(each)) for each in given.get("metrics") or ()),
        best=tuple(given.get("best") or ()),
    )


def mixture_of(name: str, given: Mapping[str, Any]) -> Mixture:
    """The mixture that one entry declares: names of tasks or mixtures with a rate each, or `proportional`."""
    members: list[tuple[str | Mixture, float | None]] = []
    for member, rate in given.items():
        if rate == PROPORTIONAL:
            rate = None
        elif isinstance(rate, bool) or not isinstance(rate, int | float):
            raise UserError(f"Mixture {name!r} gives {member!r} the rate {rate!r}: use a number or {PROPORTIONAL!r}.")
        members.append((registry.resolve(str(member)), rate))
    return Mixture(name, tuple(members))


def source_of(given: Any, folder: str = ".", columns: tuple[str, ...] = ()) -> Source:
    """A source from what a user writes: a corpus's folder or URL, or one file for each split."""
    if isinstance(given, str):
        if ending_in(given, ENDINGS):
            raise UserError(f"The source {given} is a file: name the split it is, as in {{train: {given}}}.")
        return CorpusSource(within(folder, given))
    return FileSource({str(k): within(folder, str(v)) for k, v in _mapping(given, "source").items()}, columns)


def _like(name: str, given: Mapping[str, Any], source: Source | None) -> Task:
    for key in ("inputs", "targets", "labels", "label", "id", "group", "answers", "outcome"):
        if key in given:
            raise UserError(f"Task {name!r} is like {given['like']!r}, so it takes no {key}: leave one of the two out.")
    base = registry.get_task(str(given["like"]), given.get("form", "code"))
    changes: dict[str, Any] = {"source": source} if source is not None else {}
    if "lengths" in given:
        changes["lengths"] = _lengths(name, given)
    if "metrics" in given:
        changes["metrics"] = tuple(metric(str(each)) for each in given["metrics"])
    if "best" in given:
        changes["best"] = tuple(given["best"])
    return base.replaced(name=name, **changes)


def _words(name: str, labels: Any) -> tuple[str, ...]:
    if not isinstance(labels, list) or not labels:
        raise UserError(f"The labels of task {name!r} are {labels!r}: list their words by class id.")
    if any(isinstance(word, bool) for word in labels):
        raise UserError(
            f"The labels of task {name!r} hold a truth value, as YAML reads yes, no, true and false: quote the words."
        )
    return tuple(str(word) for word in labels)


def _lengths(name: str, given: Mapping[str, Any]) -> Lengths:
    lengths = _mapping(given.get("lengths") or {}, f"lengths of task {name!r}")
    _known_keys(lengths, ("inputs", "targets"), f"the lengths of task {name!r}")
    return Lengths(**{side: int(length) for side, length in lengths.items()})


def _known_keys(given: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in given:
        if key not in keys:
            raise unknown("key", str(key), keys, where=where)


def _mapping(given: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise UserError(f"{what} is {given!r}, not a mapping of names to values: write it as `name: value`.")
    return given


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a name given twice, where YAML itself would drop the first silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise UserError(f"{key!r} is given twice near line {node.start_mark.line + 1}: keep one of the two.")
        return super().construct_mapping(node, deep)


def _parsed(raw: bytes, place: str) -> Mapping[str, Any]:
    try:
        content = yaml.load(raw, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{place} is not YAML: {' '.join(str(error).split())}.") from None
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    return _mapping(content or {}, place)


def _run_file(path: Path) -> None:
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None or not path.is_file():
        raise UserError(f"There is no Python file {path} to register tasks from: check the path.")
    if path.stem in sys.modules:
        raise UserError(f"{path} has the name of the module {path.stem!r} that is in use: rename the file.")
    module = importlib.util.module_from_spec(specification)
    # Registered under its name, so that the tasks' own functions can travel to other processes.
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] and error.name != name:
            raise
        raise UserError(f"There is no Python module {name!r} to register tasks from: give a module or file.") from None
