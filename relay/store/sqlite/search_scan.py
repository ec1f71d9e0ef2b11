"""Looking up a search: a full-text expression → places, newest first, some at a time.

    ({title body} : ("some words" AND "pre" *)) AND (keys : (k1 OR k30023)) AND (keys : (w…))

Kinds and authors narrow the expression itself; tags, and authors by the hundred, narrow what it
finds. What comes of it is a superset, like that of every scan, as far as keys are hashes.

One statement may take long, whatever its limit: a phrase of popular words, or a short prefix, whose
lists are merged before the first place is known (50 ms at 500,000 texts). So a scan can be looked
up apart: `SearchLookup.run` in a thread, by a connection of its own, and `stop` from any other. It
goes back in stretches of time that grow, so that a look-up that is stopped has at least the newest.
Each statement gives its places as one string: a row each would mean to ask the busy event loop for
the interpreter a thousand times.
"""

import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from relay.protocol.filters import Filter
from relay.protocol.search import SearchQuery, Term, parse_search
from relay.store.relevance import MOST_COUNTED
from relay.store.sqlite.connection import open_for_reading, translated
from relay.store.sqlite.keys import Keys
from relay.store.sqlite.scans import PlacesScan, View
from relay.store.sqlite.search_index import POSITION, kind_word
from relay.store.sqlite.words import words_of

_MOST_WORDS: Final = 256
"""So many kinds or authors stand in the expression, at 2 to 5 µs for each segment."""
_AT_ONCE: Final = 4_096
"""Places that one statement gives: what the best are chosen from is often among the first."""
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
_HAVING: Final = "SELECT count(*) FROM (SELECT 1 FROM search WHERE search MATCH ? LIMIT ?)"


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
        self._terms = search.terms
        # what it costs to merge the lists of a prefix does not depend on the stretch
        self._in_stretches = not any(term.is_prefix for term in search.terms)
        self.having: list[int] = []
        """How many events have each term, up to a bound; empty where there is one term only."""
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
            values = (low, self._known - 1, *self._narrowing.values, _AT_ONCE)
            found: Any = connection.execute(self._sql, (self._expression, *values)).get
            places = sorted(map(int, found.split(",")), reverse=True) if found else []
            self._width *= _GROWTH
            if len(places) == _AT_ONCE:
                self._known = places[-1]
            else:
                self._known = low if low > self._lowest else 0
            self._waiting = places

    def stop(self) -> None:
        """End the scan here: what was found already is given."""
        self.was_stopped = True
        self._known = 0

    def _begin(self, connection: apsw.Connection) -> None:
        indexed: Any = connection.execute(POSITION).get
        newest: Any = connection.execute(_NEWEST).get
        self.indexed = indexed
        self._known = min(self._known, (newest or 0) + 1)
        if len(self._terms) > 1:
            self.having = [
                count
                for term in self._terms
                for (count,) in connection.execute(
                    _HAVING, (f"{{title body}} : {_quoted(term)}", MOST_COUNTED)
                )
            ]
        self._width = _FIRST_STRETCH

    def _look_further(self, view: View, count: int) -> list[int]:
        del count
        self.look_up(view.connection)
        return self._waiting


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

    def __init__(self, scan: SearchScan, source: LookupConnection, path: Path) -> None:
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
                    self._scan.stop()
                    return
                try:
                    self._scan.look_up(connection)
                except apsw.InterruptError:
                    self._scan.stop()
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
    if filter_.tags:
        expressions = words_of(filter_, keys).expressions
        sql += _TAGGED.format(_OR_TAGGED * (len(expressions) - 1))
        values += expressions
    if filter_.authors is not None and len(filter_.authors) > _MOST_WORDS:
        sql += _BY_AUTHORS
        values.append(apsw.carray(array("q", sorted(map(keys.author, filter_.authors)))))
    return _Narrowing(sql, tuple(values))
