"""The reader: each question opens a query of its own; this one connection answers all of them.

Every statement reads a snapshot of its own and ends at once, so no reader ever keeps the
write-ahead log from beginning anew. What must agree across statements agrees by numbers: a query
shows events with `seq` ≤ its position, whatever was committed since.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from relay.errors import StoreUnavailable
from relay.protocol.event import Record, decode_event
from relay.protocol.filters import Filter
from relay.protocol.hyperloglog import HyperLogLog
from relay.store.api import Guard, LogEntry, Tail
from relay.store.listing import ALL, QueryListing
from relay.store.sqlite import schema
from relay.store.sqlite.connection import open_for_reading, translated
from relay.store.sqlite.counting import SQLiteCounting
from relay.store.sqlite.keys import Keys, id_prefix
from relay.store.sqlite.listing import SQLiteListing, listing_of
from relay.store.sqlite.query import SQLiteQuery
from relay.store.sqlite.scans import View
from relay.store.sqlite.search_query import SQLiteSearch
from relay.store.sqlite.search_scan import LookupConnection
from relay.store.sqlite.sketching import SQLiteSketching

_HEAD: Final = "SELECT max(seq) FROM log"
_HEAD_AND_REACH: Final = (
    "SELECT (SELECT max(seq) FROM log), (SELECT value FROM meta WHERE name = 'reach')"
)
_TAIL: Final = (
    "SELECT log.seq, raw FROM log CROSS JOIN event ON event.place = log.place"
    " WHERE log.seq > ? AND log.seq <= ? AND event.seq = log.seq"
    " AND (expires IS NULL OR expires > ?) ORDER BY log.seq LIMIT ?"
)
_HOLDS_ID: Final = (
    "SELECT 1 FROM event INDEXED BY event_by_id"
    " WHERE id_prefix BETWEEN ? AND ? AND (expires IS NULL OR expires > ?) LIMIT 1"
)


class SQLiteReader:
    """The `EventReader` of a SQLite store. Belongs to one thread."""

    def __init__(self, path: Path) -> None:
        """Open the existing store at `path`. Raises `StoreUnavailable` and `StoreCorrupt`."""
        self._path = path
        try:
            self._connection = open_for_reading(path)
            try:
                schema.check(self._connection, path)
                self._keys = Keys(schema.secret(self._connection))
                self._lookups = LookupConnection(path)
            except BaseException:
                self._connection.close()
                raise
        except apsw.Error as error:
            raise translated(error, path) from error
        self._closed = False

    def head(self) -> int:
        """Return the seq of the last committed event."""
        self._require_open()
        try:
            head: Any = self._connection.execute(_HEAD).get
        except apsw.Error as error:
            raise translated(error, self._path) from error
        return head or 0

    def query(
        self, filters: Sequence[Filter], default_limit: int, now: int, guard: Guard | None = None
    ) -> SQLiteQuery | SQLiteSearch:
        """Begin to answer `filters`; see `EventReader.query`."""
        view, reach = self._view(now)
        asked = view, self._path, self._keys, filters, default_limit, reach
        if any(filter_.searches for filter_ in filters):
            return SQLiteSearch(*asked, self._lookups, guard)
        return SQLiteQuery(*asked, guard)

    def _view(self, now: int) -> tuple[View, int]:
        """Return what is stored now, and how far any event was moved from its place."""
        self._require_open()
        try:
            row: Any = self._connection.execute(_HEAD_AND_REACH).fetchone()
        except apsw.Error as error:
            raise translated(error, self._path) from error
        head, reach = row
        return View(self._connection, head or 0, now), reach

    def count(
        self,
        filters: Sequence[Filter],
        now: int,
        guard: Guard | None = None,
        sketch: HyperLogLog | None = None,
    ) -> SQLiteCounting | SQLiteSketching:
        """Begin to count; see `EventReader.count`."""
        view = View(self._connection, self.head(), now)
        if sketch is not None:
            [only] = filters
            return SQLiteSketching(view, self._path, self._keys, only, guard, sketch)
        return SQLiteCounting(view, self._path, self._keys, filters, guard, self._lookups)

    def list(
        self, filter_: Filter, now: int, guard: Guard | None = None
    ) -> SQLiteListing | QueryListing:
        """Begin to list what matches; see `EventReader.list`."""
        view, reach = self._view(now)
        large = listing_of(filter_, view, self._path, guard) if not reach else None
        if large is not None:
            return large
        # in NIP-01's order even if the filter searches
        asked = SQLiteQuery(view, self._path, self._keys, [filter_], ALL, reach, guard)
        return QueryListing(asked)

    def tail(self, after: int, max_events: int, max_bytes: int, now: int) -> Tail:
        """Return the log after `after`; see `EventReader.tail`."""
        head = self.head()
        if head <= after:
            return Tail([], after)
        entries: list[LogEntry] = []
        size = 0
        try:
            # Row by row, so that large events beyond `max_bytes` are not even read.
            rows = self._connection.execute(_TAIL, (after, head, now, max_events))
            for seq, raw in rows:
                entries.append(LogEntry(seq, Record(decode_event(raw), raw)))
                size += len(raw)
                if size >= max_bytes:
                    rows.close()
                    break
        except apsw.Error as error:
            raise translated(error, self._path) from error
        if len(entries) < max_events and size < max_bytes:
            return Tail(entries, head)
        return Tail(entries, entries[-1].seq if entries else after)

    def holds_id(self, prefix: str, now: int) -> bool:
        """Tell whether an event whose id begins so is stored; see `EventReader.holds_id`."""
        self._require_open()
        between = id_prefix(prefix.ljust(64, "0")), id_prefix(prefix.ljust(64, "f"))
        try:
            return self._connection.execute(_HOLDS_ID, (*between, now)).get is not None
        except apsw.Error as error:
            raise translated(error, self._path) from error

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if not self._closed:
            self._closed = True
            self._lookups.close()
            self._connection.close()

    def _require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self._path}: the reader was closed")
