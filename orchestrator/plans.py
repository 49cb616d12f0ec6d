"""A plan of phases as data: YAML in, each phase's configuration out. Pure: no Ray, no file but the plan itself.

name: books-first               # by default the file's name
base: {model: tiny, steps: 300} # what all phases share; may begin with a preset
phases:
  - name: pretrain
    config: {mixture: mine}
  - name: finetune
    after: pretrain             # starts from that phase's last checkpoint
    config: {preset: finetune, mixture: glue_cola}
    evaluate: [glue_cola]       # every checkpoint; the best is chosen by the task's column

In place of phases, `study: leave_one_out` (or another experiment of the paper) with `targets`, and `pretraining` and
`finetuning` for what its phases of each kind change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.naming import unknown
from data.tasks import study
from orchestrator.config import Config, load, merge, on_preset, read_yaml

_KEYS = ("name", "base", "phases", "study", "targets", "pretraining", "finetuning")
_PHASE_KEYS = ("name", "after", "config", "evaluate")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SMALL_BATCH = {"rows": 8, "lanes": 8}
"""Section 3.7's batch for the tasks of GLUE and SuperGLUE alone."""


@dataclass(frozen=True)
class PhasePlan:
    """One phase: its configuration's values, the phase it starts from, and what its checkpoints are evaluated on."""

    name: str
    values: dict[str, Any]
    after: str | None = None
    evaluate: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Phases in an order that can be run as it stands."""

    name: str
    phases: tuple[PhasePlan, ...]


def read_plan(path: str) -> Plan:
    """The plan in the file at `path`; its files of tasks may be named relative to it."""
    file = Path(path)
    if not file.is_file():
        raise UserError(f"there is no plan {path}; give the path of a YAML file")
    return parse(read_yaml(file.read_text(), path), file.stem, file.parent)


def parse(content: Mapping[str, Any], name: str, folder: Path = Path()) -> Plan:
    """The plan that `content` tells; `name` is taken where it gives none. Raises `UserError` for what does not fit."""
    _check_keys(content, _KEYS, "the plan")
    name = _name(content.get("name", name), "the plan")
    base = on_preset(_mapping(content, "base", "the plan"), "base")
    if ("phases" in content) == ("study" in content):
        raise UserError(f"plan {name} needs either phases or study; experiments: {', '.join(study.PLANS)}")
    if "study" in content:
        phases = _studied(content, base)
    else:
        for key in ("targets", "pretraining", "finetuning"):
            if key in content:
                raise UserError(f"{key} belongs to a study; plan {name} lists its phases: put it into them")
        phases = [_phase(given, base) for given in content["phases"] or ()]
    _check_order(name, phases)
    return Plan(name, tuple(_placed(phase, folder) for phase in phases))


def configurations(plan: Plan, sources: Sequence[str] = (), overrides: Iterable[str] = ()) -> dict[str, Config]:
    """Configuration by phase; over each phase's own values go the files of `sources`, then `overrides`.

    A phase lies in the folder PLAN/PHASE of the storage and starts from the folder of the phase before it.
    """
    overrides = list(overrides)
    found: dict[str, Config] = {}
    for phase in plan.phases:
        values = merge(phase.values, {"run": f"{plan.name}/{phase.name}"})
        if phase.after is not None:
            values["initial"] = found[phase.after].run_url
        config = found[phase.name] = load(sources, overrides, base=values)
        if (config.run, config.initial) != (values["run"], values.get("initial", config.initial)):
            raise UserError(f"run= and initial= of phase {phase.name} follow from plan {plan.name}; leave them out")
        if phase.evaluate and config.checkpoint.keep is not None:
            raise UserError(
                f"checkpoint.keep={config.checkpoint.keep} would delete checkpoints of phase {phase.name} before they "
                "are evaluated; set checkpoint.keep to null"
            )
    return found


def describe(plan: Plan, configs: Mapping[str, Config]) -> str:
    """The plan in plain lines, for people."""
    lines = [f"Plan {plan.name}: {len(plan.phases)} phases"]
    for number, phase in enumerate(plan.phases, start=1):
        config = configs[phase.name]
        mixed = "the unsupervised objective" if config.mixture is None else f"{config.mixture} mixed {config.mixing}"
        left = "" if config.leave_out is None else f" without {config.leave_out}"
        start = "fresh weights" if config.initial is None else phase.after or config.initial
        lines.append(
            f"{number:>3}. {phase.name}: {config.steps:,} steps of {config.batch.rows} rows on {mixed}{left}, from "
            f"{start}, parameters {config.train.parameters}"
        )
        if phase.evaluate:
            lines.append(f"     evaluates {', '.join(phase.evaluate)} every {config.checkpoint.every:,} steps")
    return "\n".join(lines)


def _phase(given: Any, base: dict[str, Any]) -> PhasePlan:
    if not isinstance(given, Mapping) or "name" not in given:
        raise UserError(f"a phase is {given!r}; write it as a mapping with a name")
    name = _name(given["name"], "a phase")
    _check_keys(given, _PHASE_KEYS, f"phase {name}")
    after = given.get("after")
    evaluate = given.get("evaluate") or ()
    if isinstance(evaluate, str) or not all(isinstance(each, str) for each in evaluate):
        raise UserError(f"evaluate of phase {name} is {evaluate!r}; give a list of tasks or mixtures")
    values = on_preset(_mapping(given, "config", f"phase {name}"), f"phase {name}")
    return PhasePlan(name, merge(base, values), None if after is None else str(after), tuple(evaluate))


def _studied(content: Mapping[str, Any], base: dict[str, Any]) -> list[PhasePlan]:
    """The phases of an experiment of the paper, those alone that lead to the `targets`, with the user's changes."""
    stages = study.plan(str(content["study"]))
    fresh = on_preset(_mapping(content, "pretraining", "the plan"), "pretraining")
    tuned = on_preset(_mapping(content, "finetuning", "the plan"), "finetuning")
    kinds = {True: (on_preset({"preset": "finetune"}, "the study"), tuned), False: ({}, fresh)}
    known = list(dict.fromkeys(target for stage in stages for target in stage.targets))
    targets = list(content.get("targets") or known)
    for target in targets:
        if target not in known:
            raise unknown("target", str(target), known, where=f"study {content['study']}")
    wanted = {stage.name for stage in stages if set(stage.targets) & set(targets)}
    wanted |= {str(stage.after) for stage in stages if stage.name in wanted}
    phases = []
    for stage in stages:
        if stage.name in wanted:
            usual, changes = kinds[stage.after is not None]
            values = merge(merge(merge(base, usual), _stage_values(stage)), changes)
            evaluated = [each for each in stage.targets if each in targets]
            phases.append(PhasePlan(stage.name, values, stage.after, tuple(evaluated)))
    return phases


def _stage_values(stage: study.Stage) -> dict[str, Any]:
    mixture, _, left_out = stage.mixture.name.partition("_without_")
    values: dict[str, Any] = {"steps": stage.steps, "checkpoint": {"every": stage.checkpoint_steps}}
    if mixture != study.UNSUPERVISED_ALONE.name:
        values["mixture"] = mixture
    if left_out:
        values["leave_out"] = left_out
    if stage.checkpoint_steps == study.SMALL_CHECKPOINT_STEPS:
        values["batch"] = dict(_SMALL_BATCH)
    return values


def _placed(phase: PhasePlan, folder: Path) -> PhasePlan:
    """Files of tasks that lie beside the plan, named from the working directory."""
    places = phase.values.get("tasks")
    if not isinstance(places, list):
        return phase
    found = [str(folder / place) if (folder / str(place)).exists() else place for place in places]
    return PhasePlan(phase.name, {**phase.values, "tasks": found}, phase.after, phase.evaluate)


def _check_order(plan: str, phases: Sequence[PhasePlan]) -> None:
    if not phases:
        raise UserError(f"plan {plan} has no phases; list one or more")
    seen: list[str] = []
    for phase in phases:
        if phase.name in seen:
            raise UserError(f"plan {plan} has two phases {phase.name!r}; give each its own name")
        if phase.after is not None and phase.after not in seen:
            raise unknown("phase", phase.after, seen, where=f"what stands before phase {phase.name}")
        seen.append(phase.name)


def _mapping(content: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, Mapping):
        raise UserError(f"{key} of {where} is {value!r}; write configuration keys as a mapping")
    return dict(value)


def _check_keys(given: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in given:
        if key not in keys:
            raise unknown("key", str(key), keys, where=where)


def _name(value: Any, what: str) -> str:
    if not _NAME.fullmatch(str(value)):
        raise UserError(f"{what} is named {value!r}; use letters, digits, dots, dashes and underscores")
    return str(value)
