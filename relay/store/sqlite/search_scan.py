"""Looking up a search: a full-text expression → places, newest first or best first.

    ({title body} : ("some words" AND "pre" *)) AND (keys : (k1 OR k30023)) AND (keys : (w…))

Kinds and authors narrow the expression itself; ids, tags, and authors by the hundred, narrow what
it finds. What comes of it is a superset, like that of every scan, as far as keys are hashes.

* `SearchScan` gives everything, newest first: to be counted, or listed.
* `RankedScan` gives the best of the 10,000 newest, by the BM25 of FTS5, in which a word of a title
  counts three times. To score one costs 0.5 µs, and to know how rare a word is, 25 ns for each text
  that has it.

One statement may take long, whatever its limit: a phrase of popular words, or a short prefix, whose
lists are merged before the first place is known (50 ms at 500,000 texts). So a scan can be looked
up apart: `SearchLookup.run` in a thread, by a connection of its own, and `stop` from any other. A
`RankedScan` that is stopped makes do with the newest matches of the last month, as they come.

Each statement gives its places as one string: a row each would mean to ask the busy event loop for
the interpreter a thousand times.
"""

import threading
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from relay.protocol.filters import Filter
from relay.protocol.search import SearchQuery, Term, parse_search
from relay.store.sqlite.connection import open_for_reading, translated
from relay.store.sqlite.keys import Keys, id_prefix
from relay.store.sqlite.scans import PlacesScan, View
from relay.store.sqlite.search_index import POSITION, kind_word
from relay.store.sqlite.words import words_of

_MOST_WORDS: Final = 256
"""So many kinds or authors stand in the expression, at 2 to 5 µs for each segment."""
_AT_ONCE: Final = 4_096
"""Places that one statement gives."""
_PREFIX_AT_ONCE: Final = 65_536
"""The same where there are prefixes, which are looked up anew by each statement."""
_FIRST_STRETCH: Final = (32 * 86_400) << 29
"""Places of 32 days."""
_GROWTH: Final = 8
_NEWEST: Final = "SELECT max(place) FROM event"
_PLACES: Final = (
    "SELECT group_concat(place) FROM (SELECT rowid AS place FROM search"
    " WHERE search MATCH ? AND rowid BETWEEN ? AND ?{} ORDER BY rowid DESC LIMIT ?)"
)
_TAGGED: Final = " AND +rowid IN (SELECT rowid FROM tag WHERE tag MATCH ?{})"
_OR_TAGGED: Final = " UNION ALL SELECT rowid FROM tag WHERE tag MATCH ?"
_BY_AUTHORS: Final = (
    " AND (SELECT author_kind >> 16 FROM event WHERE event.place = search.rowid)"
    " IN (SELECT value FROM carray(?))"
)
_BY_IDS: Final = (
    " AND +rowid IN (SELECT place FROM carray(?) AS wanted"
    " CROSS JOIN event INDEXED BY event_by_id ON id_prefix = wanted.value)"
)
_MOST_SCORED: Final = 10_000
"""Matches of one filter among which the best are looked for, the newest first."""
_SPARE: Final = 100
_BEST: Final = (
    "SELECT group_concat(place || ' ' || score) FROM ("
    " SELECT place, score FROM ("
    " SELECT rowid AS place, bm25(search, 3.0, 1.0, 0.0) AS score FROM search"
    " WHERE search MATCH ? AND rowid BETWEEN ? AND ?{} ORDER BY rowid DESC LIMIT ?)"
    " ORDER BY score, place DESC LIMIT ?)"
)


class _Narrowing(NamedTuple):
    """Further conditions of the statement, and their values."""

    sql: str
    values: tuple[Any, ...]


class SearchScan(PlacesScan):
    """Rows whose text has all the terms of a filter's search."""

    def __init__(self, filter_: Filter, keys: Keys, lowest: int, highest: int) -> None:
        super().__init__(highest)
        search = parse_search(filter_.search or "")
        self._expression = _expression(filter_, search, keys)
        self._narrowing = _narrowing(filter_, keys)
        self._sql = _PLACES.format(self._narrowing.sql)
        self._lowest = lowest
        self._width = 0
        # what it costs to merge the lists of a prefix does not depend on the stretch
        self._in_stretches = not any(term.is_prefix for term in search.terms)
        self._at_once = _AT_ONCE if self._in_stretches else _PREFIX_AT_ONCE
        self.indexed = 0
        """The seq up to which the log was indexed when the scan began."""
        self.was_stopped = False
        """Whether it has ended before everything was found."""

    @property
    def wants_lookup(self) -> bool:
        """Whether `step` would have to look further."""
        return not self._waiting and self._known > 0

    def look_up(self, connection: apsw.Connection) -> None:
        """Find the next places, or none that are left. Raises `apsw.Error`."""
        if not self._width:
            self._begin(connection)
        while self.wants_lookup:
            low = self._lowest
            if self._in_stretches:
                low = max(low, self._known - self._width)
            values = (low, self._known - 1, *self._narrowing.values, self._at_once)
            found: Any = connection.execute(self._sql, (self._expression, *values)).get
            places = sorted(map(int, found.split(",")), reverse=True) if found else []
            self._width *= _GROWTH
            if len(places) == self._at_once:
                self._known = places[-1]
            else:
                self._known = low if low > self._lowest else 0
            self._waiting = places

    def stop(self, connection: apsw.Connection | None) -> None:
        """End the scan here: what was found already is given."""
        del connection
        self.was_stopped = True
        self._known = 0

    def _begin(self, connection: apsw.Connection) -> None:
        indexed: Any = connection.execute(POSITION).get
        newest: Any = connection.execute(_NEWEST).get
        self.indexed = indexed
        self._known = min(self._known, (newest or 0) + 1)
        self._width = _FIRST_STRETCH

    def _look_further(self, view: View, count: int) -> list[int]:
        del count
        self.look_up(view.connection)
        return self._waiting


class Candidate(NamedTuple):
    """A match, in the order of relevance: the lowest is the best, the newest among equals."""

    score: float
    minus_place: int

    @property
    def place(self) -> int:
        """Where it is."""
        return -self.minus_place


class RankedScan:
    """The best matches of a filter that searches, as far as it wants any."""

    def __init__(self, filter_: Filter, keys: Keys, lowest: int, highest: int, limit: int) -> None:
        search = parse_search(filter_.search or "")
        self._expression = _expression(filter_, search, keys)
        self._narrowing = _narrowing(filter_, keys)
        self._range = (lowest, highest)
        self._has_prefix = any(term.is_prefix for term in search.terms)
        self._most = max(_MOST_SCORED, limit + 1)
        # some may turn out to have expired, or to be hidden
        self._wanted = min(2 * limit + _SPARE, self._most)
        self._seen: set[int] = set()
        self.candidates: deque[Candidate] = deque()
        """What was found and is not given yet, in order."""
        self.indexed = 0
        """The seq up to which the log was indexed when the scan began."""
        self.was_stopped = False
        """Whether it had to make do with what was quick to find."""
        self.exhausted = False
        """Whether there are no further candidates."""
        self._found = 0

    @property
    def wants_lookup(self) -> bool:
        """Whether it has to be looked up before the next candidate is known."""
        return not self.candidates and not self.exhausted

    @property
    def found_all(self) -> bool:
        """Whether every match was among the candidates, once it is exhausted."""
        return self.exhausted and not self.was_stopped and self._found < self._most

    def look_up(self, connection: apsw.Connection) -> None:
        """Find candidates; if those found before did not suffice, all. Raises `apsw.Error`."""
        if not self._found:
            indexed: Any = connection.execute(POSITION).get
            self.indexed = indexed
        sql = _BEST.format(self._narrowing.sql)
        values = (*self._range, *self._narrowing.values, self._most, self._wanted)
        found: Any = connection.execute(sql, (self._expression, *values)).get
        candidates = []
        if found:
            for pair in found.split(","):
                place, _, score = pair.partition(" ")
                candidates.append(Candidate(float(score), -int(place)))
        self._found = len(candidates)
        self.exhausted = len(candidates) < self._wanted or self._wanted == self._most
        self._wanted = self._most
        self._offer(candidates)

    def stop(self, connection: apsw.Connection | None) -> None:
        """Make do with what is quick to find by this connection, if there is one."""
        self.was_stopped = self.exhausted = True
        if connection is None or self._has_prefix:
            return
        newest: Any = connection.execute(_NEWEST).get
        lowest, highest = self._range
        highest = min(highest, newest or 0)
        lowest = max(lowest, highest - _FIRST_STRETCH)
        sql = _PLACES.format(self._narrowing.sql)
        values = (lowest, highest, *self._narrowing.values, self._wanted)
        found: Any = connection.execute(sql, (self._expression, *values)).get
        places = sorted(map(int, found.split(",")), reverse=True) if found else []
        self._offer([Candidate(0.0, -place) for place in places])

    def _offer(self, found: list[Candidate]) -> None:
        self.candidates.extend([one for one in found if one.place not in self._seen])
        self._seen.update([one.place for one in found])


class LookupConnection:
    """A connection for look-ups, which are done in threads, one at a time."""

    def __init__(self, path: Path) -> None:
        """Open the existing store at `path`. Raises `apsw.Error`."""
        self._connection = open_for_reading(path)
        self._turn = threading.Lock()

    @contextmanager
    def borrowed(self) -> Iterator[apsw.Connection]:
        """Wait for the connection, and have it for the length of a block."""
        with self._turn:
            yield self._connection

    def close(self) -> None:
        """Close the connection, when nobody uses it any more. Idempotent."""
        with self._turn:
            self._connection.close()


class SearchLookup:
    """One look-up of a scan, for a thread; see `relay.store.api.Lookup`."""

    def __init__(self, scan: SearchScan | RankedScan, source: LookupConnection, path: Path) -> None:
        self._scan = scan
        self._source = source
        self._path = path
        self._guard = threading.Lock()
        self._connection: apsw.Connection | None = None
        self._stopped = False

    def run(self) -> None:
        """Look up; see `Lookup.run`."""
        try:
            with self._source.borrowed() as connection:
                if not self._enter(connection):
                    self._scan.stop(None)
                    return
                try:
                    self._scan.look_up(connection)
                except apsw.InterruptError:
                    self._leave()
                    self._scan.stop(connection)
                finally:
                    self._leave()
        except apsw.Error as error:
            raise translated(error, self._path) from error

    def stop(self) -> None:
        """End `run` soon; see `Lookup.stop`."""
        with self._guard:
            self._stopped = True
            if self._connection is not None:
                self._connection.interrupt()

    def _enter(self, connection: apsw.Connection) -> bool:
        with self._guard:
            if not self._stopped:
                self._connection = connection
            return not self._stopped

    def _leave(self) -> None:
        # under the lock, so that no interruption meets whoever uses the connection next
        with self._guard:
            self._connection = None


def _quoted(term: Term) -> str:
    return f'"{" ".join(term.words)}"' + (" *" if term.is_prefix else "")


def _expression(filter_: Filter, search: SearchQuery, keys: Keys) -> str:
    parts = [f"({{title body}} : ({' AND '.join(map(_quoted, search.terms))}))"]
    if filter_.kinds is not None and len(filter_.kinds) <= _MOST_WORDS:
        parts.append(f"(keys : ({' OR '.join(map(kind_word, sorted(filter_.kinds)))}))")
    if filter_.authors is not None and len(filter_.authors) <= _MOST_WORDS:
        words = map(keys.author_word, sorted(filter_.authors))
        parts.append(f"(keys : ({' OR '.join(words)}))")
    return " AND ".join(parts)


def _narrowing(filter_: Filter, keys: Keys) -> _Narrowing:
    sql = ""
    values: list[Any] = []
    if filter_.ids is not None:
        sql += _BY_IDS
        values.append(apsw.carray(array("q", sorted(map(id_prefix, filter_.ids)))))
    if filter_.tags:
        expressions = words_of(filter_, keys).expressions
        sql += _TAGGED.format(_OR_TAGGED * (len(expressions) - 1))
        values += expressions
    if filter_.authors is not None and len(filter_.authors) > _MOST_WORDS:
        sql += _BY_AUTHORS
        values.append(apsw.carray(array("q", sorted(map(keys.author, filter_.authors)))))
    return _Narrowing(sql, tuple(values))
