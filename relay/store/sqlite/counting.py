"""Counting: every event that matches any of the filters, once, some at each step.

Kinds and times alone are counted in their index, without a look at the rows (40 ns an event);
whatever goes by a hash is checked on its row like the events of a query. Several filters remember
the places that they have counted.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from relay.protocol.filters import Filter
from relay.store.api import Budget
from relay.store.sqlite.connection import translated
from relay.store.sqlite.keys import Keys
from relay.store.sqlite.planner import Plan, plan, time_range
from relay.store.sqlite.scans import View

_ROWS_AT_ONCE: Final = 300
_ENTRIES_AT_ONCE: Final = 20_000
_COUNT_KIND: Final = (
    "SELECT count(*), min(place) FROM ("
    " SELECT place FROM event INDEXED BY event_by_kind"
    " WHERE kind = ? AND place BETWEEN ? AND ? ORDER BY place DESC LIMIT ?)"
)
_COUNT_EXPIRED: Final = (
    "SELECT count(*) FROM event INDEXED BY event_by_expiration"
    " WHERE expires <= ? AND kind = ? AND place BETWEEN ? AND ?"
)


class _KindRange(NamedTuple):
    kind: int
    lowest: int
    highest: int


class SQLiteCounting:
    """The `Counting` of a SQLite store."""

    def __init__(self, view: View, path: Path, keys: Keys, filters: Sequence[Filter]) -> None:
        self._view = view
        self._path = path
        self._total = 0
        self._ranges: list[_KindRange] = []
        self._plans: list[Plan] = []
        self._counted: set[int] | None = None
        if len(filters) == 1 and _only_kinds(filters[0]):
            places = time_range(filters[0])
            if places is not None:
                self._ranges = [_KindRange(kind, *places) for kind in filters[0].kinds or ()]
            return
        plans = [plan(filter_, keys) for filter_ in filters]
        self._plans = [found for found in plans if found is not None]
        if len(self._plans) > 1:
            self._counted = set()

    @property
    def total(self) -> int:
        """Events counted up to now."""
        return self._total

    def step(self, budget: Budget) -> bool:
        """Count on; see `Counting.step`."""
        try:
            while self._ranges or self._plans:
                if self._ranges:
                    self._count_entries()
                else:
                    self._count_rows()
                if (self._ranges or self._plans) and budget():
                    return False
        except apsw.Error as error:
            raise translated(error, self._path) from error
        return True

    def _count_entries(self) -> None:
        kind, lowest, highest = self._ranges.pop()
        [(count, last)] = self._view.select(_COUNT_KIND, (kind, lowest, highest, _ENTRIES_AT_ONCE))
        if count == _ENTRIES_AT_ONCE:
            self._ranges.append(_KindRange(kind, lowest, last - 1))
            lowest = last
        [(expired,)] = self._view.select(_COUNT_EXPIRED, (self._view.now, kind, lowest, highest))
        self._total += count - expired

    def _count_rows(self) -> None:
        scan, check = self._plans[-1].scan, self._plans[-1].check
        rows = scan.step(self._view, _ROWS_AT_ONCE)
        if check is not None:
            rows = [row for row in rows if check(row[1])]
        if self._counted is None:
            self._total += len(rows)
        else:
            self._counted.update([place for place, _raw in rows])
            self._total = len(self._counted)
        if scan.exhausted:
            self._plans.pop()


def _only_kinds(filter_: Filter) -> bool:
    return (
        filter_.kinds is not None
        and filter_.ids is None
        and filter_.authors is None
        and not filter_.tags
    )
