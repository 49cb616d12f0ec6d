"""What goes wrong for reasons a user can mend: each error names the thing, the value and the mend."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in what the user gave; its message is one clear sentence shown without a traceback."""


class DataDamaged(UserError):
    """A shard or a record is not what its index says."""


class BudgetExceeded(UserError):
    """More records were bad than the run allows."""
