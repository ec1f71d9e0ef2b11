"""Queries: the scans of a request's filters, checked, merged and cut into pages.

Each filter is a `_Stream`: its scan's rows, checked exactly, in NIP-01's order, up to its limit.
A page takes the first of the streams' heads, each event once, until it is full or the budget ends.

Between two pages nothing is held but places: the rows that a page has read are forgotten with it.
An event that waits in a stream is fetched again when its turn comes; if it was replaced, deleted or
has expired meanwhile it is left out, and does not count against the limit.

A page's work does not grow with the number of filters: many streams read little at a step, and are
merged a few events at a time, since each of these may have to be taken from all of them.

Most requests have one filter, and a store in which no event was ever moved has nothing to reorder:
`_Direct` then passes the scan's rows on as they come (0.3 µs a row instead of 1.5).

`complete` (NIP-67) is known exactly: a stream that has reached its limit looks for one match more.
If that was not given by another filter either, something was left out. If it was, the stream looks
on, some steps long; to the end where a guard hides events, since how many they are must not show.
"""

import sys
from collections import deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from relay.protocol.filters import Filter
from relay.store.api import Budget, Guard, Page
from relay.store.sqlite.connection import translated
from relay.store.sqlite.keys import Keys
from relay.store.sqlite.places import first_place, natural_place, second
from relay.store.sqlite.planner import Plan, plan
from relay.store.sqlite.rows import row_id
from relay.store.sqlite.scans import Row, View

_MOST_ROWS: Final = 600
"""Rows read at one step of a stream: well below a millisecond."""
_MOST_PROBES: Final = 8
"""Steps taken for NIP-67 after the last event was given."""

_PROBED: Final = 32

_FEWEST_ROWS: Final = 16
_MERGED_AT_ONCE: Final = 2_048
"""So many matches, of all streams together, are compared between two looks at the budget."""

_Key = tuple[int, bytes]
_Rows = dict[int, bytes]
"""What a page has read, by place."""


def _probes(plans: Sequence[Plan]) -> int:
    return sys.maxsize if any(one.is_guarded for one in plans) else _MOST_PROBES


class _Waiting(NamedTuple):
    """A match: its rank in NIP-01's order (lower is earlier), and where it is."""

    key: _Key
    place: int


class _Stream:
    """The matches of one filter, in order."""

    def __init__(self, filter_plan: Plan, limit: int, reach: int) -> None:
        self._scan = filter_plan.scan
        self._check = filter_plan.check
        self._reach = reach
        self._unordered: list[_Waiting] = []
        self.ready: deque[_Waiting] = deque()
        self.left = limit

    @property
    def dry(self) -> bool:
        """Whether no further match will come."""
        return self._scan.exhausted and not self.ready and not self._unordered

    @property
    def done(self) -> bool:
        """Whether nothing more is to be given."""
        return self.left == 0 or self.dry

    @property
    def is_all_ready(self) -> bool:
        """Whether everything that is still to be given is ready, and the limit allows all of it."""
        return self._scan.exhausted and not self._unordered and len(self.ready) <= self.left

    def step(self, view: View, room: int, known: _Rows) -> None:
        """Do one step of work towards the next `room` matches; their rows become known."""
        # One more than is wanted, to know whether there is more.
        self._take_in(self._scan.step(view, min(self.left, room, _MOST_ROWS) + 1), known)

    def _take_in(self, rows: list[Row], known: _Rows) -> None:
        check = self._check
        if check is not None:
            rows = [row for row in rows if check(row[1])]
        known.update(rows)
        if self._reach:
            self._reorder(rows)
        else:
            self.ready.extend([_Waiting((-place, b""), place) for place, _raw in rows])

    def _reorder(self, rows: list[Row]) -> None:
        """Hold matches back until no moved event can come that belongs before them."""
        for place, raw in rows:
            event_id = row_id(raw)
            key = (-natural_place(second(place), event_id), event_id)
            self._unordered.append(_Waiting(key, place))
        self._unordered.sort()
        floor = self._scan.floor
        settled = 0
        for key, place in self._unordered:
            if max(-key[0] - self._reach, first_place(second(place))) < floor:
                break
            settled += 1
        self.ready.extend(self._unordered[:settled])
        del self._unordered[:settled]

    def probe(self, view: View, known: _Rows) -> None:
        """Do one step of work to find out whether there is a match beyond the limit."""
        self._take_in(self._scan.step(view, _PROBED), known)

    def first(self, room: int) -> list[_Waiting]:
        """Return what may be given next, up to the limit and to `room`."""
        return list(islice(self.ready, min(self.left, room)))

    def forget(self, gone: AbstractSet[int]) -> None:
        """Leave out what is no longer there."""
        self.ready = deque(waiting for waiting in self.ready if waiting.place not in gone)

    def goes_on_after(self, number: int) -> bool:
        """Tell whether anything may have to be given after the next `number` events."""
        return number < self.left and (number < len(self.ready) or not self._scan.exhausted)

    def drop_up_to(self, key: _Key) -> None:
        """Count what was given, here or by another stream."""
        while self.left and self.ready and self.ready[0].key <= key:
            self.ready.popleft()
            self.left -= 1


class _Direct:
    """The matches of the only filter, where the scan's order is exact."""

    def __init__(self, filter_plan: Plan, limit: int) -> None:
        self._scan = filter_plan.scan
        self._check = filter_plan.check
        self._left = limit
        self._parked: list[int] = []
        self._probes_left = _probes([filter_plan])

    def next_rows(
        self, view: View, max_events: int, max_bytes: int, budget: Budget
    ) -> tuple[list[bytes], bool]:
        """Return the next rows, and whether all were given."""
        given: list[bytes] = []
        size = 0
        stepped = False
        fresh = False
        while self._left and (self._parked or not self._scan.exhausted):
            room = max_events - len(given)
            if room <= 0 or size >= max_bytes or (stepped and budget()):
                return given, False
            stepped = True
            rows = self._step(view, min(room, self._left, _MOST_ROWS) + 1)
            taken = [raw for _place, raw in rows[: min(room, self._left)]]
            added = sum(map(len, taken))
            if size + added > max_bytes:
                added = 0
                for number, raw in enumerate(taken):
                    if size + added >= max_bytes:
                        del taken[number:]
                        break
                    added += len(raw)
            given += taken
            size += added
            self._left -= len(taken)
            fresh = fresh or not self._parked
            self._parked[:0] = [place for place, _raw in rows[len(taken) :]]
        while not self._parked and not self._scan.exhausted and self._probes_left:
            if stepped and budget():
                return given, False
            stepped = True
            self._probes_left -= 1
            self._parked = [place for place, _raw in self._step(view, _PROBED)]
            fresh = True
        # what was parked on an earlier page may be gone by now
        return given, not self._parked or fresh or bool(self._refreshed(view))

    @property
    def is_complete(self) -> bool | None:
        """Whether no match is left, all being given; `None` when that would take long to know."""
        if self._parked:
            return False
        return True if self._scan.exhausted else None

    def _refreshed(self, view: View) -> list[Row]:
        """Return the first parked events that are still there; forget those that are not."""
        while self._parked:
            rows = view.fetch(self._parked[:_PROBED])
            if rows:
                return rows
            del self._parked[:_PROBED]
        return []

    def _step(self, view: View, count: int) -> list[Row]:
        if self._parked:
            places = self._parked[:count]
            del self._parked[:count]
            return view.fetch(places)
        check = self._check
        rows = self._scan.step(view, count)
        return rows if check is None else [row for row in rows if check(row[1])]


class SQLiteQuery:
    """The `Query` of a SQLite store."""

    def __init__(
        self,
        view: View,
        path: Path,
        keys: Keys,
        filters: Sequence[Filter],
        default_limit: int,
        reach: int,
        guard: Guard | None = None,
    ) -> None:
        self._view = view
        self._path = path
        self._unasked = False
        plans: list[tuple[Plan, int]] = []
        for filter_ in filters:
            limit = default_limit if filter_.limit is None else filter_.limit
            if limit == 0:
                self._unasked = True
                continue
            filter_plan = plan(filter_, keys, guard)
            if filter_plan is not None:
                plans.append((filter_plan, limit))
        self._direct: _Direct | None = None
        self._streams: list[_Stream] = []
        if len(plans) == 1 and not reach:
            self._direct = _Direct(*plans[0])
        else:
            self._streams = [_Stream(found, limit, reach) for found, limit in plans]
        # Which events were given matters only where filters may overlap.
        self._given: set[_Key] | None = set() if len(plans) > 1 else None
        self._known: _Rows = {}
        self._complete: bool | None = None
        self._finished = False
        self._probes_left = _probes([found for found, _limit in plans])

    @property
    def position(self) -> int:
        """The log's head when the query began."""
        return self._view.position

    @property
    def complete(self) -> bool | None:
        """Whether every stored match was given; see `Query.complete`."""
        return self._complete

    @property
    def lookup(self) -> None:
        """Nothing takes long."""
        return

    def page(self, max_events: int, max_bytes: int, budget: Budget) -> Page:
        """Return the next events; see `Query.page`."""
        if self._finished:
            return Page([], finished=True)
        try:
            if self._direct is not None:
                rows, self._finished = self._direct.next_rows(
                    self._view, max_events, max_bytes, budget
                )
                if self._finished and not self._unasked:
                    self._complete = self._direct.is_complete
            else:
                rows, self._finished = self._next_rows(max_events, max_bytes, budget)
        except apsw.Error as error:
            raise translated(error, self._path) from error
        self._known.clear()
        if self._finished:
            self._streams.clear()
        return Page(rows, self._finished)

    def _next_rows(
        self, max_events: int, max_bytes: int, budget: Budget
    ) -> tuple[list[bytes], bool]:
        rows: list[bytes] = []
        size = 0
        stepped = False
        while True:
            active = [stream for stream in self._streams if not stream.done]
            if not active:
                break
            room = max_events - len(rows)
            if room <= 0 or size >= max_bytes or (rows and budget()):
                return rows, False
            wanted = max(_FEWEST_ROWS, 2 * room // len(active))
            for stream in active:
                if not stream.ready and not stream.dry:
                    if stepped and budget():
                        return rows, False
                    stream.step(self._view, wanted, self._known)
                    stepped = True
            rest = self._rest(room, max_bytes - size)
            if rest is not None:
                if not self._unasked:
                    self._complete = True
                return rows + rest, True
            if all(stream.ready or stream.dry for stream in active):
                room = min(room, max(_FEWEST_ROWS, _MERGED_AT_ONCE // len(active)))
                size += self._take(active, rows, room, max_bytes - size)
        return rows, self._know_complete(budget, stepped=stepped)

    def _rest(self, room: int, room_bytes: int) -> list[bytes] | None:
        """Return all that is left, if that is known, is cut by no limit, and there is room for it.

        Most requests of several filters have few answers, which are there after one step of each:
        five look-ups cost 15 µs less than with the merge that could go on.
        """
        found: dict[_Key, int] = {}
        for stream in self._streams:
            if not stream.is_all_ready:
                return None
            found.update(stream.ready)
            if len(found) > room:
                return None
        known = self._known
        # rows that an earlier page has read, and this one has not, are for the merge, too
        rows = [known[place] for key in sorted(found) if (place := found[key]) in known]
        fits = len(rows) == len(found) and sum(map(len, rows)) <= room_bytes
        return rows if fits else None

    def _take(
        self, streams: Sequence[_Stream], rows: list[bytes], room: int, room_bytes: int
    ) -> int:
        """Move what is ready to `rows`, each event once, up to `room`; return its size.

        That is, down to where the first of the streams does not know yet how it goes on.
        """
        found: dict[_Key, int] = {}
        horizon: _Key | None = None
        for stream in streams:
            some = stream.first(room)
            found.update(some)
            if some and stream.goes_on_after(len(some)):
                last = some[-1].key
                horizon = last if horizon is None else min(horizon, last)
        keys = sorted(found)[:room]
        if self._forget_gone([found[key] for key in keys]):
            return 0  # others may come first now
        size = 0
        taken: _Key | None = None
        for key in keys:
            if size >= room_bytes or (horizon is not None and key > horizon):
                break
            taken = key
            raw = self._known[found[key]]
            rows.append(raw)
            size += len(raw)
            if self._given is not None:
                self._given.add(key)
        if taken is not None:
            for stream in streams:
                stream.drop_up_to(taken)
        return size

    def _forget_gone(self, places: Sequence[int]) -> bool:
        """Make the rows at `places` known; leave out those that are gone, and tell if there are."""
        unknown = [place for place in places if place not in self._known]
        if not unknown:
            return False
        self._known.update(self._view.fetch(sorted(unknown, reverse=True)))
        gone = {place for place in unknown if place not in self._known}
        if gone:
            for stream in self._streams:
                stream.forget(gone)
        return bool(gone)

    def _know_complete(self, budget: Budget, *, stepped: bool) -> bool:
        """Find out `complete`, all events being given; false when the budget ends before."""
        if self._unasked:
            return True
        for stream in self._streams:
            while True:
                self._forget_gone([waiting.place for waiting in islice(stream.ready, _PROBED)])
                if any(self._given is None or w.key not in self._given for w in stream.ready):
                    self._complete = False
                    return True
                stream.ready.clear()
                if stream.dry:
                    break
                if not self._probes_left:
                    return True
                if stepped and budget():
                    return False
                stepped = True
                self._probes_left -= 1
                stream.probe(self._view, self._known)
        self._complete = True
        return True
