"""Queries that search: the best first.

Each filter that searches has candidates, the best of its newest matches (`RankedScan`). They are
merged by relevance, fetched, compared exactly, and counted against the limit of the filter that has
found them; what two filters have found is given once. The filters of the same request that do not
search are answered afterwards, in NIP-01's order, without what was given already.

Of a word that many more events have than are scored, the best of the newest are given. All other
conditions of the filter are met before anything counts among these.

What takes long is looking up, and can be done in a thread (`SQLiteSearch.lookup`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from relay.protocol.filters import Filter
from relay.store.api import Budget, Guard, Page
from relay.store.sqlite.connection import translated
from relay.store.sqlite.keys import Keys
from relay.store.sqlite.planner import search_check, time_range
from relay.store.sqlite.query import SQLiteQuery
from relay.store.sqlite.rows import RowCheck, row_id
from relay.store.sqlite.scans import View
from relay.store.sqlite.search_scan import Candidate, LookupConnection, RankedScan, SearchLookup

_FETCHED_AT_ONCE: Final = 100
"""Rows that are read between two looks at the budget."""


class _Ranking:
    """The matches of one filter, the best first."""

    def __init__(self, scan: RankedScan, check: RowCheck | None, limit: int) -> None:
        self.scan = scan
        self.check = check
        self.left = limit
        self.left_out: set[int] = set()
        """Matches beyond the limit, as far as anybody has looked."""

    @property
    def done(self) -> bool:
        """Whether nothing more is looked for: a match beyond the limit tells all there is."""
        return (self.left == 0 and bool(self.left_out)) or (
            self.scan.exhausted and not self.scan.candidates
        )


class _Next(NamedTuple):
    """A candidate, and who has found it."""

    candidate: Candidate
    ranking: _Ranking


class SQLiteSearch:
    """The `Query` of a SQLite store for requests that search."""

    def __init__(
        self,
        view: View,
        path: Path,
        keys: Keys,
        filters: Sequence[Filter],
        default_limit: int,
        reach: int,
        source: LookupConnection,
        guard: Guard | None = None,
    ) -> None:
        self._view = view
        self._path = path
        self._source = source
        self._rankings: list[_Ranking] = []
        self._unasked = False
        for filter_ in filters:
            limit = default_limit if filter_.limit is None else filter_.limit
            places = time_range(filter_)
            if not filter_.searches or places is None:
                continue
            if limit == 0:
                self._unasked = True
                continue
            scan = RankedScan(filter_, keys, *places, limit)
            self._rankings.append(_Ranking(scan, search_check(filter_, guard), limit))
        plain = [filter_ for filter_ in filters if not filter_.searches]
        self._plain: SQLiteQuery | None = None
        if plain:
            self._plain = SQLiteQuery(view, path, keys, plain, default_limit, reach, guard)
        self._given: set[bytes] = set()
        self._given_places: set[int] = set()
        self._finished = False

    @property
    def position(self) -> int:
        """The log's head when the query began."""
        return self._view.position

    @property
    def lookup(self) -> SearchLookup | None:
        """What the next page has to look up; see `Query.lookup`."""
        for ranking in self._rankings:
            if not ranking.done and ranking.scan.wants_lookup:
                return SearchLookup(ranking.scan, self._source, self._path)
        return None

    @property
    def complete(self) -> bool | None:
        """Whether every stored match was given; see `Query.complete`."""
        if not self._finished or self._unasked:
            return None
        left_out = any(ranking.left_out - self._given_places for ranking in self._rankings)
        found_all = all(
            ranking.scan.found_all
            and not ranking.scan.candidates
            and ranking.scan.indexed >= self._view.position
            for ranking in self._rankings
        )
        if self._plain is None:
            return False if left_out else True if found_all else None
        if self._plain.complete is False and not self._given:
            return False
        # what one side has left out may have been given by the other
        return True if self._plain.complete and found_all and not left_out else None

    def page(self, max_events: int, max_bytes: int, budget: Budget) -> Page:
        """Return the next events; see `Query.page`."""
        if self._finished:
            return Page([], finished=True)
        try:
            return self._page(max_events, max_bytes, budget)
        except apsw.Error as error:
            raise translated(error, self._path) from error

    def _page(self, max_events: int, max_bytes: int, budget: Budget) -> Page:
        rows: list[bytes] = []
        size = 0
        stepped = False
        while any(not ranking.done for ranking in self._rankings):
            room = max_events - len(rows)
            if room <= 0 or size >= max_bytes or (stepped and budget()):
                return Page(rows, finished=False)
            stepped = True
            for raw in self._step(min(room, _FETCHED_AT_ONCE), max_bytes - size):
                rows.append(raw)
                size += len(raw)
        if self._plain is None:
            self._finished = True
            return Page(rows, finished=True)
        if len(rows) >= max_events or size >= max_bytes or (stepped and budget()):
            return Page(rows, finished=False)
        page = self._plain.page(max_events - len(rows), max_bytes - size, budget)
        self._finished = page.finished
        rows += [raw for raw in page.rows if row_id(raw) not in self._given]
        return Page(rows, page.finished)

    def _step(self, most: int, max_bytes: int) -> list[bytes]:
        """Look up what has to be, or judge the next candidates; return what is given of them."""
        if (lookup := self.lookup) is not None:
            lookup.run()
            return []
        following = self._following(most)
        there = dict(self._view.fetch([one.candidate.place for one in following]))
        rows: list[bytes] = []
        size = 0
        for number, (candidate, ranking) in enumerate(following):
            if size >= max_bytes:
                for unused in reversed(following[number:]):
                    unused.ranking.scan.candidates.appendleft(unused.candidate)
                break
            place = candidate.place
            raw = there.get(place)
            if raw is None or (ranking.check is not None and not ranking.check(raw)):
                continue
            if not ranking.left:
                ranking.left_out.add(place)
                continue
            ranking.left -= 1
            if place not in self._given_places:
                self._given_places.add(place)
                self._given.add(row_id(raw))
                rows.append(raw)
                size += len(raw)
        return rows

    def _following(self, most: int) -> list[_Next]:
        """Take the next candidates, the best of all first, as far as all are known."""
        active = [ranking for ranking in self._rankings if not ranking.done]
        following: list[_Next] = []
        while len(following) < most and not any(one.scan.wants_lookup for one in active):
            ready = [one for one in active if one.scan.candidates]
            if not ready:
                break
            best = min(ready, key=lambda one: one.scan.candidates[0])
            following.append(_Next(best.scan.candidates.popleft(), best))
        return following
