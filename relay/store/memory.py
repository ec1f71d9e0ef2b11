"""A store in memory: plain and obviously right.

It is the oracle of every other store's tests, and serves `--store memory:`. Commits cost a few
dictionary accesses; a query looks at every event and sorts, some hundreds of events between two
looks at the budget, and remembers its result, of which each page gives what is still there.

Nothing here is shared between threads or processes.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from relay.protocol.event import KIND_VANISH, Event, Record, expiration, is_ephemeral
from relay.protocol.filters import Filter, matches_any
from relay.protocol.hyperloglog import HyperLogLog
from relay.protocol.search import parse_search
from relay.protocol.searchable import searchable
from relay.store.api import Budget, Committed, Guard, LogEntry, Outcome, Page, Tail, Terms
from relay.store.listing import ALL, QueryListing
from relay.store.relevance import Relevance
from relay.store.semantics import (
    UNDELETABLE,
    address,
    all_alike,
    covered,
    deletion_request,
    entitled,
    spoilt,
    supersedes,
)

_STEP_EVENTS: Final = 500
"""Events looked at between two looks at the budget: about a millisecond."""
_PREFIX: Final = 8


class _Stored(NamedTuple):
    seq: int
    record: Record
    expires: int | None

    def visible(self, now: int) -> bool:
        return self.expires is None or self.expires > now

    def shown(self, now: int, guard: Guard | None) -> bool:
        return self.visible(now) and (guard is None or guard.allows(self.record.raw))


class MemoryStore:
    """What the writer and the readers of one process share."""

    def __init__(self) -> None:
        self._head = 0
        self._log: dict[int, _Stored] = {}  # by seq, hence in log order
        self._by_id: dict[str, _Stored] = {}
        self._by_prefix: defaultdict[str, set[str]] = defaultdict(set)  # 8 digits → ids
        self._by_address: dict[str, _Stored] = {}
        self._expiring: dict[str, _Stored] = {}
        self._deleted_ids: set[tuple[str, str]] = set()  # (id, author)
        self._deleted_addresses: dict[str, int] = {}  # up to and with this created_at
        self._vanished: dict[str, int] = {}  # author → the same
        self._buried: set[str] = set()

    def writer(self) -> "MemoryWriter":
        """Return the writer."""
        return MemoryWriter(self)

    def reader(self) -> "MemoryReader":
        """Return a reader; any number may be made."""
        return MemoryReader(self)

    @property
    def head(self) -> int:
        """The seq of the last accepted event; 0 in the beginning."""
        return self._head

    def accept(self, record: Record, now: int) -> Committed:
        """Take one event, by the rules of `relay.store.api`."""
        event = record.event
        refusal = self.refusal(event, now)
        if refusal is not None:
            return Committed(refusal, 0)
        expires = expiration(event)
        event_address = address(event)
        if event_address is not None:
            current = self._by_address.get(event_address)
            if current is not None:
                version = current.record.event
                if current.visible(now) and not supersedes(event, version.created_at, version.id):
                    return Committed(Outcome.SUPERSEDED, 0)
                self._remove(current)
        if event.kind == KIND_VANISH:
            self._vanished[event.pubkey] = event.created_at
            self.erase(covered(event), ())
        self._head += 1
        stored = _Stored(self._head, record, expires)
        self._log[stored.seq] = stored
        self._by_id[event.id] = stored
        self._by_prefix[event.id[:_PREFIX]].add(event.id)
        if event_address is not None:
            self._by_address[event_address] = stored
        if expires is not None:
            self._expiring[event.id] = stored
        self._delete_what_is_named(event)
        return Committed(Outcome.STORED, stored.seq)

    def refusal(self, event: Event, now: int) -> Outcome | None:
        """Return why an event is not taken, if that is not for a newer version's sake."""
        expires = expiration(event)
        if expires is not None and expires <= now:
            return Outcome.EXPIRED
        if event.id in self._by_id:
            return Outcome.DUPLICATE
        if event.id in self._buried:
            return Outcome.BURIED
        if any(self._vanished.get(one, -1) >= event.created_at for one in entitled(event)):
            return Outcome.VANISHED
        if self._is_deleted(event, address(event)):
            return Outcome.DELETED
        return None

    def holds(self, expected: Mapping[str, str | None], now: int) -> bool:
        """Tell whether these are the current versions, by address; see `Terms.expected`."""
        for name, event_id in expected.items():
            version = self._by_address.get(name)
            visible = version is not None and version.visible(now)
            if event_id != (version.record.event.id if version is not None and visible else None):
                return False
        return True

    def erase(self, filters: Sequence[Filter], ids: Iterable[str]) -> None:
        """Remove what matches, and bury what has these ids; see `Terms`."""
        self._buried.update(ids)
        for stored in self.snapshot():
            event = stored.record.event
            if event.id in self._buried or any(filter_.matches(event) for filter_ in filters):
                self._remove(stored)

    def remove_expired(self, now: int, max_events: int) -> int:
        """Remove expired events, the longest expired first; return how many."""
        expired = [stored for stored in self._expiring.values() if not stored.visible(now)]
        expired.sort(key=lambda stored: stored.expires or 0)
        for stored in expired[:max_events]:
            self._remove(stored)
        return min(len(expired), max_events)

    def snapshot(self) -> list[_Stored]:
        """Return everything stored, in log order."""
        return list(self._log.values())

    def after(self, seq: int) -> Iterator[_Stored]:
        """Yield what is stored after `seq`, in log order."""
        if self._head - seq < len(self._log):
            between = (self._log.get(number) for number in range(seq + 1, self._head + 1))
            return (stored for stored in between if stored is not None)
        return (stored for stored in self._log.values() if stored.seq > seq)

    def holds_id(self, prefix: str, now: int) -> bool:
        """Tell whether a visible event's id begins with these 8 digits."""
        return any(self._by_id[found].visible(now) for found in self._by_prefix.get(prefix, ()))

    def still_holds(self, stored: _Stored) -> bool:
        """Tell whether `stored` has not been removed."""
        return stored.seq in self._log

    def _is_deleted(self, event: Event, event_address: str | None) -> bool:
        if event_address is not None:
            until = self._deleted_addresses.get(event_address)
            if until is not None and event.created_at <= until:
                return True
        return event.kind not in UNDELETABLE and any(
            (event.id, one) in self._deleted_ids for one in entitled(event)
        )

    def _delete_what_is_named(self, event: Event) -> None:
        request = deletion_request(event)
        if request is None:
            return
        for event_id in request.ids:
            self._deleted_ids.add((event_id, event.pubkey))
            named = self._by_id.get(event_id)
            if named is not None:
                target = named.record.event
                if event.pubkey in entitled(target) and target.kind not in UNDELETABLE:
                    self._remove(named)
        for name in request.addresses:
            until = self._deleted_addresses.get(name, 0)
            self._deleted_addresses[name] = max(until, event.created_at)
            named = self._by_address.get(name)
            if named is not None and named.record.event.created_at <= event.created_at:
                self._remove(named)

    def _remove(self, stored: _Stored) -> None:
        event = stored.record.event
        del self._log[stored.seq]
        del self._by_id[event.id]
        alike = self._by_prefix[event.id[:_PREFIX]]
        alike.remove(event.id)
        if not alike:
            del self._by_prefix[event.id[:_PREFIX]]
        self._expiring.pop(event.id, None)
        event_address = address(event)
        if event_address is not None:
            del self._by_address[event_address]


class MemoryWriter:
    """The `EventWriter` of a `MemoryStore`. Durable as long as the process is."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def commit(
        self, records: Sequence[Record], now: int, terms: Terms | None = None
    ) -> list[Committed]:
        """Take a batch; see `EventWriter.commit`."""
        if any(is_ephemeral(record.event.kind) for record in records):
            raise ValueError("ephemeral events are never stored")
        if terms is not None:
            if not self._store.holds(terms.expected, now):
                return all_alike(Outcome.CONFLICT, records)
            if terms.whole:
                fates = [self._fate(record, now, terms) for record in records]
                refused = spoilt(fates)
                if refused is not None:
                    return refused
            self._store.erase(terms.erase, terms.bury)
        return [self._store.accept(record, now) for record in records]

    def _fate(self, record: Record, now: int, terms: Terms) -> Outcome:
        if record.event.id in terms.bury:
            return Outcome.BURIED
        return self._store.refusal(record.event, now) or Outcome.STORED

    def sweep(self, now: int, max_events: int) -> int:
        """Remove expired events; see `EventWriter.sweep`."""
        return self._store.remove_expired(now, max_events)

    def maintain(self) -> bool:
        """Do nothing: memory needs no housekeeping."""
        return False

    @property
    def unindexed(self) -> int:
        """Nothing: a search looks at every event."""
        return 0

    def index(self, max_events: int) -> int:
        """Do nothing: there is no index."""
        del max_events
        return self._store.head

    def close(self) -> None:
        """Do nothing: the store lives as long as something refers to it."""


class MemoryReader:
    """The `EventReader` of a `MemoryStore`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def head(self) -> int:
        """Return the seq of the last committed event."""
        return self._store.head

    def query(
        self, filters: Sequence[Filter], default_limit: int, now: int, guard: Guard | None = None
    ) -> "MemoryQuery":
        """Begin to answer `filters`; see `EventReader.query`."""
        return MemoryQuery(self._store, filters, default_limit, now, guard)

    def count(
        self,
        filters: Sequence[Filter],
        now: int,
        guard: Guard | None = None,
        sketch: HyperLogLog | None = None,
    ) -> "MemoryCounting":
        """Begin to count; see `EventReader.count`."""
        return MemoryCounting(self._store, filters, now, guard, sketch)

    def list(self, filter_: Filter, now: int, guard: Guard | None = None) -> QueryListing:
        """Begin to list what matches; see `EventReader.list`."""
        asked = MemoryQuery(self._store, [filter_], ALL, now, guard, by_relevance=False)
        return QueryListing(asked)

    def tail(self, after: int, max_events: int, max_bytes: int, now: int) -> Tail:
        """Return the log after `after`; see `EventReader.tail`."""
        entries: list[LogEntry] = []
        size = 0
        position = after
        for stored in self._store.after(after):
            if len(entries) >= max_events or size >= max_bytes:
                return Tail(entries, position)
            position = stored.seq
            if stored.visible(now):
                entries.append(LogEntry(stored.seq, stored.record))
                size += len(stored.record.raw)
        return Tail(entries, max(after, self._store.head))

    def holds_id(self, prefix: str, now: int) -> bool:
        """Tell whether an event whose id begins so is stored; see `EventReader.holds_id`."""
        return self._store.holds_id(prefix, now)

    def close(self) -> None:
        """Do nothing: a reader holds nothing."""


class MemoryQuery:
    """The `Query` of a `MemoryStore`."""

    def __init__(
        self,
        store: MemoryStore,
        filters: Sequence[Filter],
        default_limit: int,
        now: int,
        guard: Guard | None,
        *,
        by_relevance: bool = True,
    ) -> None:
        self._store = store
        self._now = now
        self._guard = guard
        self._limits = [
            default_limit if filter_.limit is None else filter_.limit for filter_ in filters
        ]
        self._filters = filters
        self._position = store.head
        self._snapshot = store.snapshot()
        self._seen = 0
        self._matches: list[list[_Stored]] = [[] for _ in filters]
        self._rankings = [
            _Ranking(filter_, store.head) if by_relevance and filter_.searches else None
            for filter_ in filters
        ]
        self._step = _STEP_EVENTS if not any(self._rankings) else _STEP_EVENTS // 10
        self._result: list[_Stored] | None = None
        self._given = 0
        self._complete: bool | None = None

    @property
    def position(self) -> int:
        """The log's head when the query began."""
        return self._position

    @property
    def complete(self) -> bool | None:
        """Whether every stored match was given; see `Query.complete`."""
        if self._result is None or self._given < len(self._result):
            return None
        return self._complete

    @property
    def lookup(self) -> None:
        """Nothing takes long."""
        return

    def page(self, max_events: int, max_bytes: int, budget: Budget) -> Page:
        """Return the next events; see `Query.page`."""
        if self._result is None:
            self._look_at_some()
            while self._seen < len(self._snapshot):
                if budget():
                    return Page([], finished=False)
                self._look_at_some()
            self._snapshot.clear()
            self._result = self._conclude()
        rows: list[bytes] = []
        size = 0
        while self._given < len(self._result) and len(rows) < max_events and size < max_bytes:
            stored = self._result[self._given]
            self._given += 1
            if self._store.still_holds(stored):
                rows.append(stored.record.raw)
                size += len(stored.record.raw)
        return Page(rows, finished=self._given == len(self._result))

    def _look_at_some(self) -> None:
        some = self._snapshot[self._seen : self._seen + self._step]
        self._seen += self._step
        for filter_, matches, ranking in zip(
            self._filters, self._matches, self._rankings, strict=True
        ):
            if ranking is not None:
                ranking.note(some)
            matches += [
                stored
                for stored in some
                if filter_.matches(stored.record.event) and stored.shown(self._now, self._guard)
            ]

    def _conclude(self) -> list[_Stored]:
        found: dict[int, tuple[float, _Stored]] = {}
        plain: list[list[_Stored]] = []
        for matches, ranking, limit in zip(
            self._matches, self._rankings, self._limits, strict=True
        ):
            if ranking is None:
                plain.append(_in_order(matches)[:limit])
                continue
            for scored in ranking.best(matches, limit):
                seq = scored[1].seq
                found[seq] = max(scored, found.get(seq, scored), key=_score)
        relevant = [stored for _score, stored in sorted(found.values(), key=_relevance_rank)]
        result = relevant + [stored for stored in _union(plain) if stored.seq not in found]
        if 0 in self._limits:
            # Nothing stored was asked for, so nobody looked whether there is something.
            self._complete = None
        else:
            self._complete = len(result) == len(_union(self._matches))
        return result


class _Ranking:
    """Scores the matches of one filter that searches."""

    def __init__(self, filter_: Filter, stored: int) -> None:
        self._search = parse_search(filter_.search or "")
        self._stored = stored
        self._having = [0] * len(self._search.terms)

    def note(self, some: Sequence[_Stored]) -> None:
        """Count which terms these events have, whether they match or not."""
        if len(self._having) > 1:
            for stored in some:
                text = searchable(stored.record.event)
                if text is not None:
                    for number, term in enumerate(self._search.terms):
                        self._having[number] += term.form in text.whole

    def best(self, matches: Iterable[_Stored], limit: int) -> list[tuple[float, _Stored]]:
        """Return the most relevant of these, with their scores."""
        relevance = Relevance(self._search, self._having, self._stored)
        scored = [
            (relevance.score(searchable(stored.record.event)) or 0.0, stored) for stored in matches
        ]
        return sorted(scored, key=_relevance_rank)[:limit]


class MemoryCounting:
    """The `Counting` of a `MemoryStore`."""

    def __init__(
        self,
        store: MemoryStore,
        filters: Sequence[Filter],
        now: int,
        guard: Guard | None,
        sketch: HyperLogLog | None,
    ) -> None:
        self._filters = filters
        self._sketch = sketch
        self._now = now
        self._guard = guard
        self._snapshot = store.snapshot()
        self._seen = 0
        self._total = 0

    @property
    def total(self) -> int:
        """Events counted up to now."""
        return self._total

    @property
    def is_exact(self) -> bool:
        """Whether all events were looked at: always."""
        return True

    @property
    def lookup(self) -> None:
        """Nothing takes long."""
        return

    def step(self, budget: Budget) -> bool:
        """Count on; see `Counting.step`."""
        while self._seen < len(self._snapshot):
            some = self._snapshot[self._seen : self._seen + _STEP_EVENTS]
            self._seen += _STEP_EVENTS
            for stored in some:
                event = stored.record.event
                if matches_any(self._filters, event) and stored.shown(self._now, self._guard):
                    self._total += 1
                    if self._sketch is not None:
                        self._sketch.add(event.pubkey)
            if self._seen < len(self._snapshot) and budget():
                return False
        return True


def _in_order(matches: Iterable[_Stored]) -> list[_Stored]:
    return sorted(matches, key=_rank)


def _rank(stored: _Stored) -> tuple[int, str]:
    event = stored.record.event
    return -event.created_at, event.id


def _score(scored: tuple[float, _Stored]) -> float:
    return scored[0]


def _relevance_rank(scored: tuple[float, _Stored]) -> tuple[float, int, str]:
    score, stored = scored
    return (-score, *_rank(stored))


def _union(matches: Sequence[Sequence[_Stored]]) -> list[_Stored]:
    return _in_order({stored.seq: stored for some in matches for stored in some}.values())
