"""Records that were read whole but cannot be used: counted, named, and never more than a run allows."""

from __future__ import annotations

from data.corpus import BadRecordBudget
from data.errors import BudgetExceeded


class Unusable:
    """How many different records of one split may be left out. `where` names the split in errors.

    Records that the corpus itself leaves out as damaged are charged to `damaged` and count towards the same limit.
    """

    def __init__(self, where: str, limit: int) -> None:
        self.damaged = BadRecordBudget(limit)
        self._where = where
        self._found: set[str] = set()

    def charge(self, record: str, reason: object) -> None:
        """Count a record once. Raises BudgetExceeded where that is one more than the limit."""
        self._found.add(record)
        bad = len(self._found) + len(self.damaged.found)
        if bad > self.damaged.limit:
            raise BudgetExceeded(
                f"record {record} of {self._where} cannot be used: {reason}; that makes {bad} bad records and "
                f"{self.damaged.limit} are allowed: mend the data, or allow more by readers.bad_records"
            )
