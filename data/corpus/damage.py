"""Bad records: named, counted, and never more than allowed."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from data.errors import BudgetExceeded


@dataclass(frozen=True)
class Damage:
    """One bad record: its shard's path, its number within the shard, its bytes [start, end), what is wrong."""

    shard: str
    record: int
    start: int
    end: int
    reason: str

    def __str__(self) -> str:
        return f"record {self.record} of {self.shard} (bytes {self.start} to {self.end}) is bad: {self.reason}"


class BadRecordBudget:
    """How many different records may be left out, and which were.

    A record met again, in another epoch say, is counted once. Picklable; not shared between processes, so each
    reader has its own and `merge` adds up their reports.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.found: dict[tuple[str, int], Damage] = {}

    def charge(self, damage: Damage) -> None:
        """Count a bad record. Raises BudgetExceeded where that is one more than `limit`."""
        self.found.setdefault((damage.shard, damage.record), damage)
        if len(self.found) > self.limit:
            raise BudgetExceeded(
                f"{damage}; that makes {len(self.found)} bad records and {self.limit} are allowed: "
                "copy the shard again, prepare the corpus anew, or allow more"
            )

    def merge(self, other: BadRecordBudget) -> None:
        """Add another reader's bad records. Raises BudgetExceeded where the sum is above `limit`."""
        for damage in other.found.values():
            self.charge(damage)

    def report(self) -> dict[str, Any]:
        """Plain data: the count, the limit, the counts by shard, and every bad record in order."""
        damages = [self.found[key] for key in sorted(self.found)]
        return {
            "bad_records": len(damages),
            "limit": self.limit,
            "by_shard": dict(sorted(Counter(damage.shard for damage in damages).items())),
            "records": [asdict(damage) for damage in damages],
        }
