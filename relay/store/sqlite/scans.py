"""Scans: ways through the indexes that give events in descending place, some at each step.

A scan's step is one or a few bounded SQL statements, each reading a snapshot of its own; between
two steps nothing is held. What a step gives is a *superset* of what the filter asks for as far as
keys are hashes (`relay.store.sqlite.rows` checks), and exact in time, visibility and order.

* `IndexScan`: one key, whose index SQLite can read backwards; rows come with it.
* `PlacesScan`: the others find places first, and fetch rows for those that are given only:
* `MergedScan`: a few keys, or full-text expressions: places of each in chunks, merged as far down
  as all are known.
* `NarrowedScan`: a full-text expression with parts that narrow the first one.
* `WindowScan`: many keys (a home feed: hundreds of authors, some kinds). `IN (…) ORDER BY … LIMIT`
  would collect and sort everything they ever wrote. Instead, the keys are looked up within a
  window of time, which grows until it has held enough. The first window is derived from a sample.
* `TimeScan`: keys that make up much of the traffic: the events by time, tested against a set.
* `IdScan`: everything is looked up at once, and sorted.
"""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import apsw

Row = tuple[int, bytes]
"""A place and the JSON there."""

_FETCH: Final = (
    "SELECT place, raw FROM carray(?) AS wanted CROSS JOIN event ON place = wanted.value"
    " WHERE seq <= ? AND (expires IS NULL OR expires > ?)"
)
_SMALLEST_CHUNK: Final = 16
_LARGEST_CHUNK: Final = 4_096
"""One statement finds no more: 2 to 8 ms of an expression of hundreds of words."""
_SAMPLE: Final = 2_000
_LARGEST_WINDOW: Final = 20_000
_LARGEST_GROWTH: Final = 64
_TIME_CHUNK: Final = 1_000
_TIME_SHARE: Final = 6
"""A time scan goes on while at least one in so many events is wanted."""
_NEWEST: Final = "SELECT max(place) FROM event"
_IDS_AT_ONCE: Final = 250
_AUTHORS_AT_ONCE: Final = 200

Key = Sequence[int | str]


class View(NamedTuple):
    """What a reader sees: events up to `position` that have not expired by `now`."""

    connection: apsw.Connection
    position: int
    now: int

    def select(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """Return all rows of a statement."""
        return self.connection.execute(sql, values).fetchall()

    def fetch(self, places: Sequence[int]) -> list[Row]:
        """Return the visible rows at `places`, in that order."""
        if not places:
            return []
        return self.select(_FETCH, (apsw.carray(array("q", places)), self.position, self.now))


class Scan(ABC):
    """A way through an index, from the highest place down.

    `floor` is the place down to which everything was given; 0 when the scan is exhausted.
    """

    def __init__(self, highest: int) -> None:
        self.floor = highest + 1

    @property
    def exhausted(self) -> bool:
        """Whether nothing more will come."""
        return self.floor == 0

    @abstractmethod
    def step(self, view: View, count: int) -> list[Row]:
        """Do one bounded step of work; return at most `count` rows, possibly none."""


class IndexScan(Scan):
    """Rows of one key."""

    def __init__(self, sql: str, key: Key, lowest: int, highest: int) -> None:
        super().__init__(highest)
        self._sql = sql
        self._key = key
        self._lowest = lowest

    def step(self, view: View, count: int) -> list[Row]:
        """Read the next rows."""
        rows: list[Row] = view.select(
            self._sql, (*self._key, self._lowest, self.floor - 1, view.position, view.now, count)
        )
        self.floor = rows[-1][0] if len(rows) == count else 0
        return rows


class PlacesScan(Scan):
    """Looks for places, as many as are cheap to find together, and gives their rows bit by bit."""

    def __init__(self, highest: int) -> None:
        super().__init__(highest)
        self._known = highest + 1  # the floor of what was looked through
        self._waiting: list[int] = []

    def step(self, view: View, count: int) -> list[Row]:
        """Give what is waiting, or look further."""
        if not self._waiting:
            self._waiting = self._look_further(view, count)
        places = self._waiting[:count]
        del self._waiting[:count]
        self.floor = places[-1] if self._waiting else self._known
        return view.fetch(places)

    @abstractmethod
    def _look_further(self, view: View, count: int) -> list[int]:
        """Return the next places, the highest first, and set `_known`."""


class _Places:
    """The places of one key, read in chunks that double up to a bound."""

    def __init__(self, sql: str, key: Key, lowest: int, highest: int) -> None:
        self._sql = sql
        self._key = key
        self._lowest = lowest
        self._chunk = 0
        self.waiting: list[int] = []
        self.floor = highest + 1

    def fill(self, view: View, at_least: int) -> None:
        self._chunk = max(at_least, min(2 * self._chunk, _LARGEST_CHUNK))
        values = (*self._key, self._lowest, self.floor - 1, self._chunk)
        self.waiting = [place for (place,) in view.select(self._sql, values)]
        self.floor = self.waiting[-1] if len(self.waiting) == self._chunk else 0


class MergedScan(PlacesScan):
    """Rows of several keys, each once. At most `at_once` keys are read on at a step."""

    def __init__(
        self, sql: str, keys: Iterable[Key], lowest: int, highest: int, at_once: int
    ) -> None:
        super().__init__(highest)
        self._parts = [_Places(sql, key, lowest, highest) for key in keys]
        self._at_once = at_once

    def _look_further(self, view: View, count: int) -> list[int]:
        unknown = [part for part in self._parts if part.floor and not part.waiting]
        at_least = max(_SMALLEST_CHUNK, 2 * count // len(self._parts))
        for part in unknown[: self._at_once]:
            part.fill(view, at_least)
        if len(unknown) > self._at_once:
            return []
        self._known = floor = max(part.floor for part in self._parts)
        found: set[int] = set()
        for part in self._parts:
            found.update([place for place in part.waiting if place >= floor])
            part.waiting = [place for place in part.waiting if place < floor]
        return sorted(found, reverse=True)


class NarrowedScan(PlacesScan):
    """Rows of a full-text expression that begins with `lead`, a part that the others narrow.

    It takes 4 to 19 µs to open a word, one for each segment of the index, and 3 µs to read a row.
    So the places of the lead alone are looked at first: if they are `few` they are given, and the
    check of the rows does the rest (a rare tag and 100 authors: 60 µs instead of 2,000).
    """

    def __init__(
        self, sql: str, expression: str, lead: str, few: int, lowest: int, highest: int
    ) -> None:
        super().__init__(highest)
        self._lead: _Places | None = _Places(sql, (lead,), lowest, highest)
        self._few = few
        self._narrowed = _Places(sql, (expression,), lowest, highest)

    def _look_further(self, view: View, count: int) -> list[int]:
        if self._lead is not None:
            lead, self._lead = self._lead, None
            lead.fill(view, self._few + 1)
            if not lead.floor:
                self._known = 0
                return lead.waiting
        self._narrowed.fill(view, max(_SMALLEST_CHUNK, 2 * count))
        self._known = self._narrowed.floor
        return self._narrowed.waiting


class WindowScan(PlacesScan):
    """Rows of many keys, window by window back in time.

    `sql` gives (place, key) of the keys in a range of places, in no order, so many at most.
    """

    def __init__(self, sql: str, keys: "array[int]", lowest: int, highest: int) -> None:
        super().__init__(highest)
        self._sql = sql
        self._keys = keys
        self._lowest = lowest
        self._width = 0

    def _look_further(self, view: View, count: int) -> list[int]:
        """Look through the next window, or through all that is left when that is little."""
        highest = self._known - 1
        if not self._width:
            most = max(_SAMPLE, 2 * count)
            sample = self._look(view, self._lowest, highest, most)
            if len(sample) < most:
                self._known = 0
                return sorted([place for place, _key in sample], reverse=True)
            # Nothing is above the newest event, and `until` is often absent.
            [(newest,)] = view.select(_NEWEST, ())
            self._known = min(self._known, newest + 1)
            highest = self._known - 1
            self._width = self._first_width(sample, count)
        while True:
            low = max(self._lowest, self._known - self._width)
            found = self._look(view, low, highest, _LARGEST_WINDOW)
            if len(found) < _LARGEST_WINDOW or low == highest:
                break
            self._width = max(1, self._width // 8)
        self._known = low if low > self._lowest else 0
        growth = 1.3 * count / len(found) if found else _LARGEST_GROWTH
        self._width = max(1, int(self._width * min(max(growth, 0.5), _LARGEST_GROWTH)))
        return sorted([place for place, _key in found], reverse=True)

    def _look(self, view: View, low: int, high: int, most: int) -> list[tuple[int, int]]:
        return view.select(self._sql, (apsw.carray(self._keys), low, high, most))

    def _first_width(self, sample: list[tuple[int, int]], count: int) -> int:
        """Guess the window that holds `count` rows.

        The sample is all that the first keys ever wrote. As many of its newest as fall to these
        keys' share of the count span about as much time as the whole count does.
        """
        reached = self._keys.index(sample[-1][1]) + 1
        share = reached / len(self._keys)
        newest = sorted([place for place, _key in sample], reverse=True)
        number = min(int(1.3 * count * share) + 1, len(newest) - 1)
        return max(1, self._known - newest[number])


class TimeScan(PlacesScan):
    """Rows by time, tested against a set of keys; hands over when too few of them are wanted.

    `sql` gives (place, key) of all events in a range of places, in descending order.
    """

    def __init__(
        self,
        sql: str,
        keys: frozenset[int],
        lowest: int,
        highest: int,
        otherwise: Callable[[int], Scan],
    ) -> None:
        super().__init__(highest)
        self._sql = sql
        self._keys = keys
        self._lowest = lowest
        self._make_otherwise = otherwise
        self._otherwise: Scan | None = None

    def step(self, view: View, count: int) -> list[Row]:
        """Give what is waiting, or look further, here or with the scan that took over."""
        if self._waiting or self._otherwise is None:
            return super().step(view, count)
        rows = self._otherwise.step(view, count)
        self.floor = self._otherwise.floor
        return rows

    def _look_further(self, view: View, count: int) -> list[int]:
        del count
        values = (self._lowest, self._known - 1, _TIME_CHUNK)
        seen: list[tuple[int, int]] = view.select(self._sql, values)
        keys = self._keys
        places = [place for place, key in seen if key in keys]
        if len(seen) < _TIME_CHUNK:
            self._known = 0
            return places
        self._known = seen[-1][0]
        if len(places) * _TIME_SHARE < len(seen):
            self._otherwise = self._make_otherwise(self._known - 1)
        return places


class LooseScan(Scan):
    """Finds out which keys there are before it scans them: authors whose kinds are not given.

    `sql` gives the keys present for an array of authors; some authors are asked for at a step.
    """

    def __init__(
        self,
        sql: str,
        authors: "array[int]",
        highest: int,
        scan: Callable[[list[int]], Scan | None],
    ) -> None:
        super().__init__(highest)
        self._sql = sql
        self._authors = authors
        self._make_scan = scan
        self._keys: list[int] = []
        self._scan: Scan | None = None

    def step(self, view: View, count: int) -> list[Row]:
        """Look for keys; once all are known, scan them."""
        if self._authors:
            some = self._authors[:_AUTHORS_AT_ONCE]
            del self._authors[:_AUTHORS_AT_ONCE]
            self._keys += [key for (key,) in view.select(self._sql, (apsw.carray(some),))]
            if self._authors:
                return []
            self._scan = self._make_scan(self._keys)
        if self._scan is None:
            self.floor = 0
            return []
        rows = self._scan.step(view, count)
        self.floor = self._scan.floor
        return rows


class IdScan(PlacesScan):
    """Rows of keys that lead to few rows each: ids, addresses.

    `sql` gives the visible rows of some keys in a range of places. With few keys they are all read
    at once; with many only the places are kept until all are known.
    """

    def __init__(self, sql: str, keys: "array[int]", lowest: int, highest: int) -> None:
        super().__init__(highest)
        self._sql = sql
        self._keys = keys
        self._range = (lowest, highest)
        self._found: set[int] = set()

    def step(self, view: View, count: int) -> list[Row]:
        """Look up some keys, or give what is waiting once all are looked up."""
        if not self._keys or self._found or len(self._keys) > _IDS_AT_ONCE:
            return super().step(view, count)
        rows = self._look_up(view)
        rows.sort(reverse=True)
        self._known = 0
        self._waiting = [place for place, _raw in rows[count:]]
        self.floor = rows[count - 1][0] if self._waiting else 0
        return rows[:count]

    def _look_further(self, view: View, count: int) -> list[int]:
        del count
        self._found.update([place for place, _raw in self._look_up(view)])
        if self._keys:
            return []
        self._known = 0
        return sorted(self._found, reverse=True)

    def _look_up(self, view: View) -> list[Row]:
        some = apsw.carray(self._keys[:_IDS_AT_ONCE])
        del self._keys[:_IDS_AT_ONCE]
        return view.select(self._sql, (some, *self._range, view.position, view.now))
