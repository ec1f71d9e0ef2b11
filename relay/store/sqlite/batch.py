"""What a batch does to the store, decided: nothing is written here.

1. *Look*. What the batch's events could meet in the store is read by one statement each, with the
   keys of the whole batch: events with the same id, places that are taken, current versions of the
   same addresses, tombstones.
2. *Decide*. The events are judged in order, against what was read and what the batch itself has
   changed so far, as if each were committed alone. The outcome is a `Changes`: rows to remove,
   rows to add, tombstones. Only a request for removal asks the store anything further.

Keys only say where to look: every decision compares exact ids, authors and addresses.

A place that was taken when the batch began is not used again within it, even if its event goes, so
that no page of results mistakes one event for the other.
"""

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import apsw

from relay.errors import StoreError
from relay.protocol.event import KIND_VANISH, MAX_TIMESTAMP, Event, Record, expiration, tag_keys
from relay.store.api import Committed, Outcome
from relay.store.semantics import (
    UNDELETABLE,
    DeletionRequest,
    address,
    covered,
    deletion_request,
    entitled,
    supersedes,
)
from relay.store.sqlite.erasure import matching_places
from relay.store.sqlite.keys import Keys, id_prefix
from relay.store.sqlite.places import first_place, last_place, natural_place, second
from relay.store.sqlite.rows import row_event, row_id

_NEIGHBOURS: Final = 64
REMOVED_AT_ONCE: Final = 500
"""14 ms, for which others wait; 2,000 at once are no quicker altogether."""
FOREVER: Final = MAX_TIMESTAMP + 1


class Row(NamedTuple):
    """An event in the store, or on its way there."""

    place: int
    seq: int
    event: Event
    expires: int | None


class Addition(NamedTuple):
    """An event that is to be stored, with what stands of it in the indexes."""

    row: Row
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
        self.versions: dict[str, Row] = {}
        self.tombstones: dict[str, int] = {}


class Changes:
    """What the batch does to the store."""

    def __init__(self) -> None:
        self.removed: dict[int, Row] = {}
        self.added: dict[str, Addition] = {}
        self.tombstones: dict[str, _Tombstone] = {}
        self.reach = 0
        self.unfinished: dict[str, bytes] = {}
        self.finished: list[str] = []
        self.rare_tombstones = False


class Batch:
    """Looks and decides; see the module's text."""

    def __init__(self, connection: apsw.Connection, keys: Keys, head: int, now: int) -> None:
        self._connection = connection
        self._keys = keys
        self.head = head
        self._now = now
        self._rare_tombstones = False
        self._unfinished: Collection[str] = ()
        self._removals_left = REMOVED_AT_ONCE
        self._known = _Known()
        self.changes = Changes()
        self._current: dict[str, Row | None] = {}  # versions as the batch has changed them

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

    def _versions(self, address_keys: Iterable[int]) -> dict[str, Row]:
        wanted = array("q", sorted(address_keys))
        versions: dict[str, Row] = {}
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
                versions[name] = Row(place, seq, event, expires)
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
            if buried_subject(event.id) in self._known.tombstones:
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
        row = Row(self._free_place(candidate), self.head, event, expires)
        tags = tag_keys(event)
        words = self._keys.words(event.pubkey, event.kind, tags) if tags else ""
        self.changes.added[event.id] = Addition(
            row, candidate.raw, candidate.id_prefix, candidate.address_key, words
        )
        if candidate.address is not None:
            self._current[candidate.address] = row
        request = deletion_request(event)
        if request is not None:
            self._delete(event, request)
        return Committed(Outcome.STORED, row.seq)

    def _is_visible(self, row: Row) -> bool:
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

    def _version(self, name: str) -> Row | None:
        if name in self._current:
            return self._current[name]
        return self._known.versions.get(name)

    def _delete(self, event: Event, request: DeletionRequest) -> None:
        stored = self._rows_named(request.ids)
        for event_id in request.ids:
            addition = self.changes.added.get(event_id)
            row = stored.get(event_id) if addition is None else addition.row
            subject = _id_subject(event_id, event.pubkey)
            self._bury(subject, self._keys.id_tombstone(event_id, event.pubkey), FOREVER)
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

    def _rows_at(self, places: "array[int]") -> list[Row]:
        if not places:
            return []
        found: list[Any] = self._connection.execute(
            "SELECT place, seq, raw, expires FROM carray(?) AS wanted"
            " CROSS JOIN event ON place = wanted.value",
            (apsw.carray(places),),
        ).fetchall()
        return [Row(place, seq, row_event(raw), expires) for place, seq, raw, expires in found]

    def _rows_named(self, ids: Sequence[str]) -> dict[str, Row]:
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
                rows[event.id] = Row(place, seq, event, expires)
        return rows

    def _bury(self, subject: str, key: int, until: int) -> None:
        earlier = self.changes.tombstones.get(subject)
        if earlier is not None:
            until = max(until, earlier.until)
        self.changes.tombstones[subject] = _Tombstone(key, until)

    def _remove(self, row: Row) -> None:
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


def buried_subject(event_id: str) -> str:
    """Return the subject of the tombstone for an event that the relay itself has removed."""
    return f"buried:{event_id}"


def _vanished_subject(pubkey: str) -> str:
    return f"vanished:{pubkey}"


def _id_subject(event_id: str, pubkey: str) -> str:
    return f"{event_id}:{pubkey}"
