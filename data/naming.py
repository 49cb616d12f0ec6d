"""Names that users type: the error for one that is not there suggests those near it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from data.errors import UserError


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> UserError:
    """The error for `name` where `known` are the ones there are; names at most three near ones, or all if few."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif names:
        hint = f"there are {', '.join(names[:40])}{', …' if len(names) > 40 else ''}."
    else:
        hint = "there are none."
    return UserError(f"No {kind} {name!r}{f' in {where}' if where else ''}: {hint}")
