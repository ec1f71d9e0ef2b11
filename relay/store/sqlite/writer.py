"""The commit: a batch of events becomes durable in one transaction, each by the rules.

Three passes, so that SQLite is asked a few times for a batch and not for every event:

1. *Look*. What the batch's events could meet in the store is read by one statement each, with the
   keys of the whole batch: events with the same id, places that are taken, current versions of the
   same addresses, tombstones.
2. *Decide*. The events are judged in order, against what was read and what the batch itself has
   changed so far, as if each were committed alone. The outcome is a `_Changes`: rows to remove,
   rows to add, tombstones. Only a deletion request asks the store anything further.
3. *Write*. Removals, then additions, sorted by place, each table by one `executemany`.

Where a commit has terms, they come first: expectations are compared, and what is to be erased is
removed, before the batch looks at what is left.

To remove an event costs 30 µs, and somebody who asks to vanish, or whom the relay throws out, may
have written hundreds of thousands. Whatever removes without a bound removes `_REMOVED_AT_ONCE` in
each transaction. Until the last of them the outcome is UNFINISHED, and others commit in between.
The tombstone is there from the first, so nothing comes back meanwhile; a request to vanish is kept
aside as well (`schema.unfinished`), so that `maintain` goes on with it after a crash.

Keys only say where to look: every decision compares exact ids, authors and addresses.

A place that was taken when the batch began is not used again within it, even if its event goes, so
that no page of results mistakes one event for the other.
"""

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from relay.errors import StoreError, StoreUnavailable
from relay.protocol.event import (
    KIND_VANISH,
    MAX_TIMESTAMP,
    Event,
    Record,
    expiration,
    is_ephemeral,
    tag_keys,
)
from relay.protocol.filters import Filter
from relay.store.api import Committed, Outcome, Terms
from relay.store.semantics import (
    UNDELETABLE,
    DeletionRequest,
    address,
    all_alike,
    covered,
    deletion_request,
    entitled,
    spoilt,
    supersedes,
)
from relay.store.sqlite import schema
from relay.store.sqlite.checkpoints import Checkpoints
from relay.store.sqlite.connection import open_for_writing, translated
from relay.store.sqlite.erasure import matching_places
from relay.store.sqlite.keys import Keys, id_prefix
from relay.store.sqlite.lock import WriterLock
from relay.store.sqlite.places import first_place, last_place, natural_place, second
from relay.store.sqlite.rows import row_event, row_id
from relay.store.sqlite.search_index import SearchIndex

_MERGE_PAGES: Final = 500
_MERGES: Final = 4
"""So many times so many pages of the full-text index are merged at one housekeeping: 50 ms."""
_NEIGHBOURS: Final = 64
_REMOVED_AT_ONCE: Final = 500
"""14 ms, for which others wait; 2,000 at once are no quicker altogether."""
_FOREVER: Final = MAX_TIMESTAMP + 1


class _Row(NamedTuple):
    """An event in the store, or on its way there."""

    place: int
    seq: int
    event: Event
    expires: int | None


class _Addition(NamedTuple):
    row: _Row
    raw: bytes
    id_prefix: int
    address_key: int | None
    words: str


class _Candidate(NamedTuple):
    """An event of the batch, with what is computed once for it."""

    event: Event
    raw: bytes
    id_prefix: int
    place: int
    entitled: tuple[str, ...]
    address: str | None
    address_key: int | None


class _Tombstone(NamedTuple):
    key: int
    until: int


class _Known:
    """What the batch's events could meet in the store, by exact values."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.places: set[int] = set()
        self.versions: dict[str, _Row] = {}
        self.tombstones: dict[str, int] = {}


class _Changes:
    """What the batch does to the store."""

    def __init__(self) -> None:
        self.removed: dict[int, _Row] = {}
        self.added: dict[str, _Addition] = {}
        self.tombstones: dict[str, _Tombstone] = {}
        self.reach = 0
        self.unfinished: dict[str, bytes] = {}
        self.finished: list[str] = []
        self.rare_tombstones = False


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
                batch = _Batch(self._connection, self._keys, head, now)
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

    def _write(self, changes: _Changes) -> None:
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

    def _note_progress(self, changes: _Changes) -> None:
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
        batch = _Batch(self._connection, self._keys, self._head, now)
        judged = batch.judge(records, self._rare_tombstones, self._unfinished)
        return spoilt(
            [
                Outcome.BURIED if record.event.id in terms.bury else outcome
                for record, (outcome, _) in zip(records, judged, strict=True)
            ]
        )

    def _erase(self, terms: Terms, expected: Collection[int]) -> bool:
        """Remove what the terms name, and bury what is not to come back; tell whether that was all.

        No more than `_REMOVED_AT_ONCE` events are removed. The versions at the places `expected` go
        with the last of them, else the terms would not hold the next time.
        """
        filters = list(terms.erase)
        if terms.bury:
            filters.append(Filter(ids=frozenset(terms.bury)))
            self._bury([(id_prefix(one), _buried_subject(one), _FOREVER) for one in terms.bury])
            self._expect_rare_tombstones()
        found: dict[int, None] = {}
        last: dict[int, None] = {}
        for filter_ in filters:
            most = len(found) + len(expected) + _REMOVED_AT_ONCE + 1
            for place in matching_places(self._connection, self._keys, filter_, most):
                (last if place in expected else found)[place] = None
            if len(found) > _REMOVED_AT_ONCE:
                self._remove_at(list(found)[:_REMOVED_AT_ONCE])
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

    def _add(self, additions: list[_Addition]) -> None:
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


class _Batch:
    """Looks and decides; see the module's text."""

    def __init__(self, connection: apsw.Connection, keys: Keys, head: int, now: int) -> None:
        self._connection = connection
        self._keys = keys
        self.head = head
        self._now = now
        self._rare_tombstones = False
        self._unfinished: Collection[str] = ()
        self._removals_left = _REMOVED_AT_ONCE
        self._known = _Known()
        self.changes = _Changes()
        self._current: dict[str, _Row | None] = {}  # versions as the batch has changed them

    def expected_places(self, expected: Mapping[str, str | None]) -> set[int] | None:
        """Return where these current versions are; `None`: others are. See `Terms.expected`."""
        versions = self._versions({self._keys.address(name) for name in expected})
        places = set()
        for name, event_id in expected.items():
            row = versions.get(name)
            current = row.event.id if row is not None and self._is_visible(row) else None
            if current != event_id:
                return None
            if row is not None:
                places.add(row.place)
        return places

    def judge(
        self, records: Sequence[Record], rare_tombstones: bool, unfinished: Collection[str]
    ) -> list[Committed]:
        """Decide what becomes of each event, in order.

        `rare_tombstones` tells whether there are any of the sorts that most stores have none of,
        `unfinished` which requests to vanish are to be gone on with.
        """
        if not records:
            return []
        self._rare_tombstones = rare_tombstones
        self._unfinished = unfinished
        candidates = [self._candidate(*record) for record in records]
        self._look(candidates)
        outcomes = [self._accept(candidate) for candidate in candidates]
        if unfinished or self.changes.unfinished:
            self._note_finished(records, outcomes)
        return outcomes

    def _candidate(self, event: Event, raw: bytes) -> _Candidate:
        name = address(event)
        return _Candidate(
            event,
            raw,
            id_prefix(event.id),
            natural_place(event.created_at, event.id),
            entitled(event),
            name,
            None if name is None else self._keys.address(name),
        )

    def _look(self, candidates: Sequence[_Candidate]) -> None:
        known = self._known
        known.ids = self._stored_ids({candidate.id_prefix for candidate in candidates})
        places = array("q", [candidate.place for candidate in candidates])
        known.places = {
            place
            for (place,) in self._connection.execute(
                "SELECT event.place FROM carray(?) AS wanted"
                " CROSS JOIN event ON event.place = wanted.value",
                (apsw.carray(places),),
            )
        }
        address_keys = {c.address_key for c in candidates if c.address_key is not None}
        known.versions = self._versions(address_keys)
        author = self._keys.author
        keys = {c.id_prefix ^ author(one) for c in candidates for one in c.entitled} | address_keys
        if self._rare_tombstones:
            keys.update([c.id_prefix for c in candidates])
            keys.update([author(one) for c in candidates for one in c.entitled])
        known.tombstones = self._tombstones(keys)

    def _stored_ids(self, prefixes: Iterable[int]) -> set[str]:
        return {
            found.decode()
            for (found,) in self._connection.execute(
                "SELECT substr(raw, 8, 64) FROM carray(?) AS wanted"
                " CROSS JOIN event INDEXED BY event_by_id ON id_prefix = wanted.value",
                (apsw.carray(array("q", sorted(prefixes))),),
            )
        }

    def _versions(self, address_keys: Iterable[int]) -> dict[str, _Row]:
        wanted = array("q", sorted(address_keys))
        versions: dict[str, _Row] = {}
        if not wanted:
            return versions
        for place, seq, expires, raw in self._connection.execute(
            "SELECT place, seq, expires, raw FROM carray(?) AS wanted"
            " CROSS JOIN event INDEXED BY event_by_address ON address = wanted.value",
            (apsw.carray(wanted),),
        ):
            event = row_event(raw)
            name = address(event)
            if name is not None:
                versions[name] = _Row(place, seq, event, expires)
        return versions

    def _tombstones(self, keys: Iterable[int]) -> dict[str, int]:
        found: list[Any] = self._connection.execute(
            "SELECT subject, until FROM carray(?) AS wanted"
            " CROSS JOIN tombstone ON key = wanted.value",
            (apsw.carray(array("q", sorted(keys))),),
        ).fetchall()
        return dict(found)

    def _accept(self, candidate: _Candidate) -> Committed:
        event = candidate.event
        expires = expiration(event)
        if expires is not None and expires <= self._now:
            return Committed(Outcome.EXPIRED, 0)
        is_stored = self._is_stored(event.id)
        if self._rare_tombstones or self.changes.rare_tombstones:
            if _buried_subject(event.id) in self._known.tombstones:
                return Committed(Outcome.BURIED, 0)
            # of what vanishes some may be there still, but only the request stays
            if not (is_stored and event.kind == KIND_VANISH) and self._has_vanished(candidate):
                return Committed(Outcome.VANISHED, 0)
        if is_stored:
            return Committed(Outcome.DUPLICATE, 0)
        if self._is_deleted(candidate):
            return Committed(Outcome.DELETED, 0)
        if candidate.address is not None:
            current = self._version(candidate.address)
            if current is not None:
                visible = self._is_visible(current)
                version = current.event
                if visible and not supersedes(event, version.created_at, version.id):
                    return Committed(Outcome.SUPERSEDED, 0)
                self._remove(current)
        if event.kind == KIND_VANISH and not self._vanish(event):
            self.changes.unfinished[event.id] = candidate.raw
            return Committed(Outcome.UNFINISHED, 0)
        self.head += 1
        row = _Row(self._free_place(candidate), self.head, event, expires)
        tags = tag_keys(event)
        words = self._keys.words(event.pubkey, event.kind, tags) if tags else ""
        self.changes.added[event.id] = _Addition(
            row, candidate.raw, candidate.id_prefix, candidate.address_key, words
        )
        if candidate.address is not None:
            self._current[candidate.address] = row
        request = deletion_request(event)
        if request is not None:
            self._delete(event, request)
        return Committed(Outcome.STORED, row.seq)

    def _is_visible(self, row: _Row) -> bool:
        return row.expires is None or row.expires > self._now

    def _is_stored(self, event_id: str) -> bool:
        return event_id in self.changes.added or event_id in self._known.ids

    def _is_deleted(self, candidate: _Candidate) -> bool:
        event = candidate.event
        if event.kind not in UNDELETABLE:
            for one in candidate.entitled:
                if self._is_buried(_id_subject(event.id, one), event.created_at):
                    return True
        name = candidate.address
        return name is not None and self._is_buried(name, event.created_at)

    def _has_vanished(self, candidate: _Candidate) -> bool:
        event = candidate.event
        for one in candidate.entitled:
            if self._is_buried(_vanished_subject(one), event.created_at):
                # its own tombstone must not keep a request from being finished
                is_own = event.id in self._unfinished or event.id in self.changes.unfinished
                return not is_own or self._is_buried(_vanished_subject(one), event.created_at + 1)
        return False

    def _is_buried(self, subject: str, created_at: int) -> bool:
        until = self._known.tombstones.get(subject)
        if until is not None and created_at <= until:
            return True
        tombstone = self.changes.tombstones.get(subject)
        return tombstone is not None and created_at <= tombstone.until

    def _version(self, name: str) -> _Row | None:
        if name in self._current:
            return self._current[name]
        return self._known.versions.get(name)

    def _delete(self, event: Event, request: DeletionRequest) -> None:
        stored = self._rows_named(request.ids)
        for event_id in request.ids:
            addition = self.changes.added.get(event_id)
            row = stored.get(event_id) if addition is None else addition.row
            subject = _id_subject(event_id, event.pubkey)
            self._bury(subject, self._keys.id_tombstone(event_id, event.pubkey), _FOREVER)
            if row is None or row.place in self.changes.removed:
                continue
            if event.pubkey in entitled(row.event) and row.event.kind not in UNDELETABLE:
                self._remove(row)
        address_keys = {name: self._keys.address(name) for name in request.addresses}
        self._known.versions.update(self._versions(set(address_keys.values())))
        for name, key in address_keys.items():
            self._bury(name, key, event.created_at)
            row = self._version(name)
            if row is not None and row.event.created_at <= event.created_at:
                self._remove(row)

    def _note_finished(self, records: Sequence[Record], outcomes: Sequence[Committed]) -> None:
        for (event, _raw), (outcome, _seq) in zip(records, outcomes, strict=True):
            if outcome not in (Outcome.UNFINISHED, Outcome.EXPIRED):
                self.changes.unfinished.pop(event.id, None)
                if event.id in self._unfinished:
                    self.changes.finished.append(event.id)

    def _vanish(self, request: Event) -> bool:
        """Remove what a request to vanish covers, or a part; tell whether that was all."""
        author = self._keys.author(request.pubkey)
        self._bury(_vanished_subject(request.pubkey), author, request.created_at)
        self.changes.rare_tombstones = True
        for filter_ in covered(request):
            for addition in list(self.changes.added.values()):
                if filter_.matches(addition.row.event):
                    self._remove(addition.row)
            most = len(self.changes.removed) + self._removals_left + 1
            places = matching_places(self._connection, self._keys, filter_, most)
            rows = [row for row in self._rows_at(places) if row.place not in self.changes.removed]
            for row in rows[: self._removals_left]:
                self._remove(row)
            if len(rows) > self._removals_left:
                self._removals_left = 0
                return False
            self._removals_left -= len(rows)
        return True

    def _rows_at(self, places: "array[int]") -> list[_Row]:
        if not places:
            return []
        found: list[Any] = self._connection.execute(
            "SELECT place, seq, raw, expires FROM carray(?) AS wanted"
            " CROSS JOIN event ON place = wanted.value",
            (apsw.carray(places),),
        ).fetchall()
        return [_Row(place, seq, row_event(raw), expires) for place, seq, raw, expires in found]

    def _rows_named(self, ids: Sequence[str]) -> dict[str, _Row]:
        if not ids:
            return {}
        prefixes = array("q", sorted({id_prefix(event_id) for event_id in ids}))
        wanted = {event_id.encode() for event_id in ids}
        rows = {}
        for place, seq, expires, raw in self._connection.execute(
            "SELECT place, seq, expires, raw FROM carray(?) AS wanted"
            " CROSS JOIN event INDEXED BY event_by_id ON id_prefix = wanted.value",
            (apsw.carray(prefixes),),
        ):
            if row_id(raw) in wanted and place not in self.changes.removed:
                event = row_event(raw)
                rows[event.id] = _Row(place, seq, event, expires)
        return rows

    def _bury(self, subject: str, key: int, until: int) -> None:
        earlier = self.changes.tombstones.get(subject)
        if earlier is not None:
            until = max(until, earlier.until)
        self.changes.tombstones[subject] = _Tombstone(key, until)

    def _remove(self, row: _Row) -> None:
        """Take `row` out, be it in the store or only in this batch."""
        if self.changes.added.pop(row.event.id, None) is None:
            self.changes.removed[row.place] = row
            self._known.ids.discard(row.event.id)
        name = address(row.event)
        if name is not None:
            self._current[name] = None

    def _free_place(self, candidate: _Candidate) -> int:
        event, natural = candidate.event, candidate.place
        if natural not in self._known.places:
            self._known.places.add(natural)
            return natural
        lowest, highest = first_place(event.created_at), last_place(event.created_at)
        around = _NEIGHBOURS
        while True:
            low, high = max(lowest, natural - around), min(highest, natural + around)
            self._known.places.update(
                place
                for (place,) in self._connection.execute(
                    "SELECT place FROM event WHERE place BETWEEN ? AND ?", (low, high)
                )
            )
            for distance in range(1, around + 1):
                for place in (natural - distance, natural + distance):
                    if low <= place <= high and place not in self._known.places:
                        self._known.places.add(place)
                        self.changes.reach = max(self.changes.reach, distance)
                        return place
            if low == lowest and high == highest:
                raise StoreError(f"no room left in second {second(natural)}")
            around *= 8


# No event's id and no address can begin like these two subjects.


def _buried_subject(event_id: str) -> str:
    return f"buried:{event_id}"


def _vanished_subject(pubkey: str) -> str:
    return f"vanished:{pubkey}"


def _id_subject(event_id: str, pubkey: str) -> str:
    return f"{event_id}:{pubkey}"
