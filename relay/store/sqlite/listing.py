"""Listings of many events without a look at them: of everything, or of one kind (NIP-77).

Any filter can be listed by its query (`relay.store.listing`), at 3 to 7 µs an event. These two
shapes are the large ones: whole stores are compared, or all notes. For them the items are made in
SQL, out of the place and the first bytes of the JSON, at 1.2 to 1.7 µs an event. Only events of the
kinds that a guard may hide are read and shown to it.
"""

from pathlib import Path
from typing import Final

import apsw

from relay.protocol.filters import Filter, may_meet
from relay.store.api import Budget, Guard, Listed
from relay.store.sqlite.connection import translated
from relay.store.sqlite.planner import time_range
from relay.store.sqlite.scans import View

_ITEM: Final = "unhex(printf('%016x', place >> 29) || substr(raw, 8, 64))"
_REST: Final = (
    "place BETWEEN ? AND ? AND seq <= ? AND (expires IS NULL OR expires > ?)"
    " ORDER BY place DESC LIMIT ?"
)
# Constants make up every statement: S608 (SQL built from strings) has nothing to warn of here.
_ALL: Final = f"SELECT place, kind, {_ITEM} FROM event WHERE {_REST}"  # noqa: S608
_ONE_KIND: Final = (
    f"SELECT place, kind, {_ITEM} FROM event INDEXED BY event_by_kind"  # noqa: S608
    f" WHERE kind = ? AND {_REST}"
)
_ROWS_AT_ONCE: Final = 500
_ROWS_IN_ALL: Final = 2_000


class SQLiteListing:
    """The `Listing` of a filter for everything, or for one kind, in a span of time."""

    def __init__(
        self,
        view: View,
        path: Path,
        kind: int | None,
        places: tuple[int, int],
        guard: Guard | None,
        guarded_kinds: frozenset[int],
    ) -> None:
        """Use `listing_of`, which knows for which filters this is."""
        self._view = view
        self._path = path
        self._sql = _ALL if kind is None else _ONE_KIND
        self._key = () if kind is None else (kind,)
        self._lowest, self._highest = places
        self._guard = guard
        self._guarded_kinds = guarded_kinds

    @property
    def position(self) -> int:
        """The log's head when the listing began."""
        return self._view.position

    def step(self, budget: Budget) -> Listed:
        """List on; see `Listing.step`."""
        items: list[bytes] = []
        try:
            while len(items) < _ROWS_IN_ALL:
                some, finished = self._some()
                items += some
                if finished:
                    return Listed(items, finished=True)
                if budget():
                    break
        except apsw.Error as error:
            raise translated(error, self._path) from error
        return Listed(items, finished=False)

    def _some(self) -> tuple[list[bytes], bool]:
        view = self._view
        span = (self._lowest, self._highest, view.position, view.now, _ROWS_AT_ONCE)
        rows: list[tuple[int, int, bytes]] = view.select(self._sql, (*self._key, *span))
        finished = len(rows) < _ROWS_AT_ONCE
        if not finished:
            self._highest = rows[-1][0] - 1
        guarded = self._guarded_kinds
        if guarded and self._guard is not None:
            allows = self._guard.allows
            asked = [place for place, kind, _item in rows if kind in guarded]
            if asked:
                shown = {place for place, raw in view.fetch(asked) if allows(raw)}
                rows = [row for row in rows if row[1] not in guarded or row[0] in shown]
        return [item for _place, _kind, item in rows], finished


def listing_of(
    filter_: Filter, view: View, path: Path, guard: Guard | None
) -> SQLiteListing | None:
    """Return the listing of a filter of these shapes; `None` for others.

    The store must not have moved any event from its place: places are taken for the order.
    """
    others = (filter_.ids, filter_.authors, filter_.limit, filter_.search)
    if any(part is not None for part in others) or filter_.tags:
        return None
    if filter_.kinds is not None and len(filter_.kinds) > 1:
        return None
    hidden = [one for one in (guard.filters if guard else ()) if may_meet(filter_, one)]
    kinds: set[int] = set()
    for one in hidden:
        if one.kinds is None:
            return None
        kinds |= one.kinds
    places = time_range(filter_)
    if places is None:
        return None
    kind = None if filter_.kinds is None else next(iter(filter_.kinds))
    return SQLiteListing(view, path, kind, places, guard, frozenset(kinds))
