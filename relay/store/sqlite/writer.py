"""The commit: a batch of events becomes durable in one transaction, each by the rules.

What its events could meet in the store is looked up, and what becomes of them decided, by a `Batch`
(`relay.store.sqlite.batch`). Then the changes are written: removals, then additions, sorted by
place, each table by one `executemany`. SQLite is asked a few times for a batch and not for every
event.

Where a commit has terms, they come first: expectations are compared, and what is to be erased is
removed, before the batch looks at what is left.

To remove an event costs 30 µs, and somebody who asks to vanish, or whom the relay throws out, may
have written hundreds of thousands. Whatever removes without a bound removes `REMOVED_AT_ONCE` in
each transaction. Until the last of them the outcome is UNFINISHED, and others commit in between.
The tombstone is there from the first, so nothing comes back meanwhile; a request to vanish is kept
aside as well (`schema.unfinished`), so that `maintain` goes on with it after a crash.
"""

from array import array
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from relay.errors import StoreUnavailable
from relay.protocol.event import (
    Record,
    is_ephemeral,
)
from relay.protocol.filters import Filter
from relay.store.api import Committed, Outcome, Terms
from relay.store.semantics import (
    all_alike,
    spoilt,
)
from relay.store.sqlite import schema
from relay.store.sqlite.batch import (
    FOREVER,
    REMOVED_AT_ONCE,
    Addition,
    Batch,
    Changes,
    buried_subject,
)
from relay.store.sqlite.checkpoints import Checkpoints
from relay.store.sqlite.connection import open_for_writing, translated
from relay.store.sqlite.erasure import matching_places
from relay.store.sqlite.keys import Keys, id_prefix
from relay.store.sqlite.lock import WriterLock
from relay.store.sqlite.rows import row_event
from relay.store.sqlite.search_index import SearchIndex

_MERGE_PAGES: Final = 500
_MERGES: Final = 4
"""So many times so many pages of the full-text index are merged at one housekeeping: 50 ms."""


class SQLiteWriter:
    """The `EventWriter` of a SQLite store. Belongs to one thread."""

    def __init__(self, path: Path, patience: float = 0.0, *, search: bool = True) -> None:
        """Open the store at `path`, created if missing; `search` says whether it is indexed for it.

        Blocks for up to `patience` seconds while another writer has it open. Raises
        `StoreUnavailable`, also when that one still has, and `StoreCorrupt`.
        """
        self._path = path
        self._closed = False
        self._lock = WriterLock(path, patience)
        try:
            self._connection = open_for_writing(path)
            try:
                schema.migrate(self._connection, path)
                self._keys = Keys(schema.secret(self._connection))
                self._reach = schema.reach(self._connection)
                self._rare_tombstones = schema.has_rare_tombstones(self._connection)
                self._unfinished = schema.unfinished(self._connection)
                self._head = self._read_head()
                self._search = SearchIndex(self._connection, self._keys)
                self._checkpoints = Checkpoints(path)
            except BaseException:
                self._connection.close()
                raise
        except apsw.Error as error:
            self._lock.release()
            raise translated(error, path) from error
        except BaseException:
            self._lock.release()
            raise
        self._indexes = search
        self._connection.set_wal_hook(self._note_commit)

    def commit(
        self, records: Sequence[Record], now: int, terms: Terms | None = None
    ) -> list[Committed]:
        """Take a batch; see `EventWriter.commit`."""
        if any(is_ephemeral(record.event.kind) for record in records):
            raise ValueError("ephemeral events are never stored")
        self._require_open()
        if not records and terms is None:
            return []
        head, reach, rare = self._head, self._reach, self._rare_tombstones
        try:
            # IMMEDIATE, so that the store cannot change between looking and writing
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                batch = Batch(self._connection, self._keys, head, now)
                expected = batch.expected_places(terms.expected) if terms is not None else ()
                if expected is None:
                    self._roll_back()
                    return all_alike(Outcome.CONFLICT, records)
                if terms is not None and terms.whole:
                    refused = self._spoilt(records, now, terms)
                    if refused is not None:
                        self._roll_back()
                        return refused
                if terms is not None and not self._erase(terms, expected):
                    outcomes = all_alike(Outcome.UNFINISHED, records)
                else:
                    outcomes = batch.judge(records, self._rare_tombstones, self._unfinished)
                    self._write(batch.changes)
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                self._reach = reach
                self._rare_tombstones = rare
                raise
        except apsw.Error as error:
            raise translated(error, self._path) from error
        self._head = batch.head
        self._note_progress(batch.changes)
        self._checkpoints.finish(self._connection)
        return outcomes

    def sweep(self, now: int, max_events: int) -> int:
        """Remove expired events; see `EventWriter.sweep`."""
        self._require_open()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                removed: list[Any] = self._connection.execute(
                    "SELECT place, seq FROM event INDEXED BY event_by_expiration"
                    " WHERE expires <= ? ORDER BY expires LIMIT ?",
                    (now, max_events),
                ).fetchall()
                self._remove(removed)
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        except apsw.Error as error:
            raise translated(error, self._path) from error
        return len(removed)

    def maintain(self) -> bool:
        """Merge segments of the full-text indexes; see `EventWriter.maintain`.

        Checkpoints need no idle moment, they have a thread of their own.
        """
        self._require_open()
        if self._unfinished:
            request = next(iter(self._unfinished.values()))
            # at no time has it expired: who asked for it has been promised nothing yet
            self.commit([Record(row_event(request), request)], 0)
            return True
        try:
            for _ in range(_MERGES):
                before = self._connection.total_changes()
                self._connection.execute(
                    "INSERT INTO tag(tag, rank) VALUES ('merge', ?)", (_MERGE_PAGES,)
                )
                # FTS5 tells by the number of changes whether there was anything to merge
                if self._connection.total_changes() - before < 2:
                    break
            self._search.merge()
        except apsw.Error as error:
            raise translated(error, self._path) from error
        return False

    @property
    def unindexed(self) -> int:
        """How much of the log is not indexed for search; see `EventWriter.unindexed`."""
        return self._head - self._search.position if self._indexes else 0

    def index(self, max_events: int) -> int:
        """Let the search index follow the log; see `EventWriter.index`."""
        self._require_open()
        if self._indexes:
            try:
                self._search.follow(self._head, max_events)
            except apsw.Error as error:
                raise translated(error, self._path) from error
        return self._search.position

    def close(self) -> None:
        """Close the store; the write-ahead log is moved into the file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            self._checkpoints.close()
            self._connection.close()
        except apsw.Error as error:
            raise translated(error, self._path) from error
        finally:
            self._lock.release()

    def _require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self._path}: the writer was closed")

    def _note_commit(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._checkpoints.committed(pages)
        return apsw.SQLITE_OK

    def _read_head(self) -> int:
        head = self._connection.execute("SELECT max(seq) FROM log").get
        return head if isinstance(head, int) else 0

    def _roll_back(self) -> None:
        # SQLite has rolled back already after some errors, a full disk for one
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _write(self, changes: Changes) -> None:
        self._remove([(row.place, row.seq) for row in changes.removed.values()])
        if changes.tombstones:
            self._bury(
                [(key, subject, until) for subject, (key, until) in changes.tombstones.items()]
            )
        if changes.reach > self._reach:
            schema.raise_reach(self._connection, changes.reach)
            self._reach = changes.reach
        if changes.rare_tombstones:
            self._expect_rare_tombstones()
        if changes.unfinished:
            schema.note_unfinished(self._connection, changes.unfinished)
        if changes.finished:
            schema.forget_unfinished(self._connection, changes.finished)
        self._add(sorted(changes.added.values()))

    def _note_progress(self, changes: Changes) -> None:
        """Keep in mind which requests to vanish are not finished, as it was committed."""
        self._unfinished.update(changes.unfinished)
        for event_id in changes.finished:
            self._unfinished.pop(event_id, None)

    def _expect_rare_tombstones(self) -> None:
        if not self._rare_tombstones:
            schema.note_rare_tombstones(self._connection)
            self._rare_tombstones = True

    def _spoilt(self, records: Sequence[Record], now: int, terms: Terms) -> list[Committed] | None:
        """Return what a batch that is taken whole says if it is not; see `Terms.whole`.

        It is judged before anything is removed: some of that may be committed before the rest.
        """
        batch = Batch(self._connection, self._keys, self._head, now)
        judged = batch.judge(records, self._rare_tombstones, self._unfinished)
        return spoilt(
            [
                Outcome.BURIED if record.event.id in terms.bury else outcome
                for record, (outcome, _) in zip(records, judged, strict=True)
            ]
        )

    def _erase(self, terms: Terms, expected: Collection[int]) -> bool:
        """Remove what the terms name, and bury what is not to come back; tell whether that was all.

        No more than `REMOVED_AT_ONCE` events are removed. The versions at the places `expected` go
        with the last of them, else the terms would not hold the next time.
        """
        filters = list(terms.erase)
        if terms.bury:
            filters.append(Filter(ids=frozenset(terms.bury)))
            self._bury([(id_prefix(one), buried_subject(one), FOREVER) for one in terms.bury])
            self._expect_rare_tombstones()
        found: dict[int, None] = {}
        last: dict[int, None] = {}
        for filter_ in filters:
            most = len(found) + len(expected) + REMOVED_AT_ONCE + 1
            for place in matching_places(self._connection, self._keys, filter_, most):
                (last if place in expected else found)[place] = None
            if len(found) > REMOVED_AT_ONCE:
                self._remove_at(list(found)[:REMOVED_AT_ONCE])
                return False
        self._remove_at([*found, *last])
        return True

    def _remove_at(self, places: Sequence[int]) -> None:
        if places:
            found: list[Any] = self._connection.execute(
                "SELECT place, seq FROM carray(?) AS wanted"
                " CROSS JOIN event ON place = wanted.value",
                (apsw.carray(array("q", places)),),
            ).fetchall()
            self._remove(found)

    def _bury(self, tombstones: Iterable[tuple[int, str, int]]) -> None:
        self._connection.executemany(
            "INSERT INTO tombstone VALUES (?1, ?2, ?3)"
            " ON CONFLICT DO UPDATE SET until = max(until, ?3)",
            tombstones,
        )

    def _remove(self, rows: Iterable[tuple[int, int]]) -> None:
        """Remove events, wherever something is kept of them: every removal comes by here."""
        rows = list(rows)
        if not rows:
            return
        places = [(place,) for place, _seq in rows]
        self._search.remove(rows)
        self._connection.executemany("DELETE FROM event WHERE place = ?", places)
        self._connection.executemany("DELETE FROM tag WHERE rowid = ?", places)
        # The head's row must stay, or its number would be given again after reopening.
        self._connection.executemany(
            "DELETE FROM log WHERE seq = ?",
            [(seq,) for _place, seq in rows if seq != self._head],
        )

    def _add(self, additions: list[Addition]) -> None:
        self._connection.executemany(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    row.place,
                    row.seq,
                    row.event.kind,
                    prefix,
                    self._keys.author_kind(row.event.pubkey, row.event.kind),
                    address_key,
                    row.expires,
                    raw,
                )
                for row, raw, prefix, address_key, _words in additions
            ],
        )
        self._connection.executemany(
            "INSERT INTO tag(rowid, words) VALUES (?, ?)",
            [(addition.row.place, addition.words) for addition in additions if addition.words],
        )
        self._connection.executemany(
            "INSERT INTO log VALUES (?, ?)",
            sorted([(addition.row.seq, addition.row.place) for addition in additions]),
        )
