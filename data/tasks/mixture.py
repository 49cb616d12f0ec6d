"""Mixtures: tasks and other mixtures with rates, flattened to one rate a task."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from data.errors import UserError
from data.mixing import Rule, scales


@dataclass(frozen=True)
class Mixture:
    """Members, each a task's name or another mixture, with rates.

    A rate of None means the member's number of training examples, after scale, cap and temperature. Rates are
    relative: they need not sum to 1, but none may be below 0 and their sum must be above.
    """

    name: str
    members: tuple[tuple[str | Mixture, float | None], ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise UserError(f"Mixture {self.name!r} has no members: name one task or more.")
        names = [_name(member) for member, _ in self.members]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"Mixture {self.name!r} names {name!r} twice: give it once with the rate you want.")
        rates = [rate for _, rate in self.members if rate is not None]
        for rate in rates:
            if not math.isfinite(rate) or rate < 0:
                raise UserError(f"Mixture {self.name!r} has the rate {rate}: a rate is a number of 0 or more.")
        if len(rates) == len(self.members) and sum(rates) == 0:
            raise self._zero()

    def tasks(self) -> list[str]:
        """Names of all tasks under this mixture, each once, in order."""
        return list(dict.fromkeys(self._leaves()))

    def _leaves(self) -> Iterator[str]:
        for member, _ in self.members:
            if isinstance(member, Mixture):
                yield from member._leaves()
            else:
                yield member

    def rates(self, weight: Callable[[str], float]) -> dict[str, float]:
        """Rate by task, summing to 1: (rate in the parent) × (rate inside) / (sum inside), facts 6.1.

        `weight(task)` is what a task without a rate counts; a mixture without a rate counts its tasks' weights' sum.
        """
        own = [_rate(member, rate, weight) for member, rate in self.members]
        total = math.fsum(own)
        if not total > 0:
            raise self._zero()
        shares: dict[str, float] = {}
        for (member, _), rate in zip(self.members, own, strict=True):
            inner = member.rates(weight) if isinstance(member, Mixture) and rate > 0 else {_name(member): 1.0}
            for task, share in inner.items():
                shares[task] = shares.get(task, 0.0) + rate / total * share
        return {task: share for task, share in shares.items() if share > 0}

    def rates_by(self, rule: Rule, sizes: Mapping[str, float]) -> dict[str, float]:
        """Rate by task under a mixing rule for the tasks' numbers of training examples, twins at half weight."""
        scale = scales(self.tasks())
        return self.rates(lambda task: rule.weight(task, sizes[task], scale[task]))

    def without(self, dropped: frozenset[str], name: str) -> Mixture:
        """This mixture less the tasks `dropped`, wherever they are nested, under the new `name`.

        Raises UserError where none of them is in it, or nothing would be left.
        """
        if not dropped & set(self.tasks()):
            raise UserError(
                f"Mixture {self.name!r} holds none of {', '.join(sorted(dropped))}: leave out one of "
                f"{', '.join(self.tasks())}."
            )
        left = self._less(dropped)
        if left is None:
            raise UserError(f"Mixture {self.name!r} holds nothing but {', '.join(sorted(dropped))}: nothing is left.")
        return replace(left, name=name)

    def _less(self, dropped: frozenset[str]) -> Mixture | None:
        members: list[tuple[str | Mixture, float | None]] = []
        for member, rate in self.members:
            kept = member._less(dropped) if isinstance(member, Mixture) else member
            if kept is not None and kept not in dropped:
                members.append((kept, rate))
        return replace(self, members=tuple(members)) if members else None

    def _zero(self) -> UserError:
        return UserError(f"The rates of mixture {self.name!r} sum to zero: give one of its members a rate above 0.")


def _name(member: str | Mixture) -> str:
    return member.name if isinstance(member, Mixture) else member


def _rate(member: str | Mixture, rate: float | None, weight: Callable[[str], float]) -> float:
    if rate is not None:
        return rate
    if isinstance(member, Mixture):
        return math.fsum(weight(task) for task in member.tasks())
    return weight(member)
