"""Queries that search: the best first, as `relay.store.relevance` says what is best.

The matches of each filter that searches are found, compared exactly, and scored; of these its limit
takes the best. Then all are given by relevance, each once. Filters of the same request that do not
search are answered afterwards, in NIP-01's order, without what was given already.

Scoring means to read an event's text (10 µs), so that it is done for the 2,000 newest matches of a
filter only, or as many as its limit asks for. Of a word that many more events have, the best of the
newest are given; all the other conditions hold before anything counts among these.

What takes long is looking up, and can be done in a thread (`SQLiteSearch.lookup`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from relay.protocol.filters import Filter
from relay.protocol.search import parse_search
from relay.protocol.searchable import searchable
from relay.store.api import Budget, Guard, Page
from relay.store.relevance import Relevance
from relay.store.sqlite.connection import translated
from relay.store.sqlite.keys import Keys
from relay.store.sqlite.places import natural_place, second
from relay.store.sqlite.planner import Plan, plan
from relay.store.sqlite.query import SQLiteQuery
from relay.store.sqlite.rows import row_event, row_id
from relay.store.sqlite.scans import View
from relay.store.sqlite.search_scan import LookupConnection, SearchLookup, SearchScan

_MOST_SCORED: Final = 2_000
_SCORED_AT_ONCE: Final = 100
"""Rows that are scored between two looks at the budget: about a millisecond."""
_FETCHED_AT_ONCE: Final = 100


class _Match(NamedTuple):
    """A match in its place among the results: the lowest comes first."""

    negative_score: float
    negative_natural_place: int
    event_id: bytes
    place: int


class _Ranking:
    """The matches of one filter."""

    def __init__(self, found: Plan, search: str, limit: int, position: int) -> None:
        self.scan = found.scan
        self._check = found.check
        self._search = parse_search(search)
        self._limit = limit
        self._most = max(_MOST_SCORED, limit + 1)
        self._position = position
        self._relevance: Relevance | None = None
        self._matches: list[_Match] = []

    @property
    def done(self) -> bool:
        """Whether no further match is looked for."""
        return self.scan.exhausted or len(self._matches) >= self._most

    @property
    def found_all(self) -> bool:
        """Whether no match was passed over, once it is done."""
        if not self.scan.exhausted:
            return False
        scan = self.scan
        return not isinstance(scan, SearchScan) or (
            not scan.was_stopped and scan.indexed >= self._position
        )

    def step(self, view: View) -> None:
        """Find and score the next matches."""
        rows = self.scan.step(view, _SCORED_AT_ONCE)
        if self._check is not None:
            rows = [row for row in rows if self._check(row[1])]
        if self._relevance is None:
            # known from the first step on
            having = self.scan.having if isinstance(self.scan, SearchScan) else []
            self._relevance = Relevance(self._search, having, self._position)
        for place, raw in rows:
            score = self._relevance.score(searchable(row_event(raw)))
            if score is not None:
                event_id = row_id(raw)
                natural = natural_place(second(place), event_id)
                self._matches.append(_Match(-score, -natural, event_id, place))

    def best(self) -> list[_Match]:
        """Return those that the limit admits, in order."""
        self._matches.sort()
        return self._matches[: self._limit]

    def others(self) -> set[int]:
        """Return the places of those that it does not admit."""
        return {match.place for match in self._matches[self._limit :]}


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
            if not filter_.searches:
                continue
            if limit == 0:
                self._unasked = True
            elif (found := plan(filter_, keys, guard)) is not None:
                search = filter_.search or ""
                self._rankings.append(_Ranking(found, search, limit, view.position))
        plain = [filter_ for filter_ in filters if not filter_.searches]
        self._plain: SQLiteQuery | None = None
        if plain:
            self._plain = SQLiteQuery(view, path, keys, plain, default_limit, reach, guard)
        self._results: list[int] | None = None
        self._next = 0
        self._given: set[bytes] = set()
        self._finished = False

    @property
    def position(self) -> int:
        """The log's head when the query began."""
        return self._view.position

    @property
    def lookup(self) -> SearchLookup | None:
        """What the next page has to look up; see `Query.lookup`."""
        ranking = self._unfinished()
        if ranking is None or not isinstance(ranking.scan, SearchScan):
            return None
        if not ranking.scan.wants_lookup:
            return None
        return SearchLookup(ranking.scan, self._source, self._path)

    @property
    def complete(self) -> bool | None:
        """Whether every stored match was given; see `Query.complete`."""
        if not self._finished or self._results is None:
            return None
        if self._unasked:
            return None
        given = set(self._results)
        left_out = any(ranking.others() - given for ranking in self._rankings)
        found_all = all(ranking.found_all for ranking in self._rankings)
        if self._plain is None:
            return False if left_out else True if found_all else None
        if self._plain.complete is False and not self._results:
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
        stepped = False
        while (ranking := self._unfinished()) is not None:
            if stepped and budget():
                return Page([], finished=False)
            ranking.step(self._view)
            stepped = True
        if self._results is None:
            self._results = self._merged()
        rows: list[bytes] = []
        size = 0
        while self._next < len(self._results):
            if len(rows) >= max_events or size >= max_bytes or (stepped and budget()):
                return Page(rows, finished=False)
            stepped = True
            end = self._next + min(_FETCHED_AT_ONCE, max_events - len(rows))
            places = self._results[self._next : end]
            there = dict(self._view.fetch(places))
            for place in places:
                if size >= max_bytes:
                    break
                self._next += 1
                raw = there.get(place)
                if raw is not None:
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

    def _unfinished(self) -> _Ranking | None:
        for ranking in self._rankings:
            if not ranking.done:
                return ranking
        return None

    def _merged(self) -> list[int]:
        """Return the places of all results, by relevance, each once."""
        found: dict[int, _Match] = {}
        for ranking in self._rankings:
            for match in ranking.best():
                known = found.get(match.place)
                if known is None or match < known:
                    found[match.place] = match
        self._given = {match.event_id for match in found.values()}
        return [match.place for match in sorted(found.values())]
