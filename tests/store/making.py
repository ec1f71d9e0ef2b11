"""Events for the stores' tests, and the plain way to ask a store.

Stores do not verify ids and signatures, so ids are chosen freely here: it takes no luck to have
two events meet in the bits that an index holds.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence

from relay.protocol.event import Event, Record, decode_event, record
from relay.protocol.filters import Filter, matches_any
from relay.protocol.hyperloglog import HyperLogLog
from relay.store.api import Committed, EventReader, EventWriter, Guard, Outcome, Query

NOW = 1_800_000_000
LIMIT = 500
_numbers = itertools.count(1)


def author(number: int) -> str:
    return f"{number:02x}" * 32


def identity(prefix: str = "") -> str:
    """Return an id that no other event has."""
    return prefix + f"{next(_numbers):0{64 - len(prefix)}x}"


def note(
    kind: int = 1,
    by: int = 1,
    at: int = 1000,
    tags: Iterable[Sequence[str]] = (),
    event_id: str | None = None,
    content: str = "",
) -> Record:
    frozen = tuple(map(tuple, tags))
    event_id = identity() if event_id is None else event_id
    return record(Event(event_id, author(by), at, kind, frozen, content, "0" * 128))


def filter_(
    ids: Iterable[str] | None = None,
    authors: Iterable[int] | None = None,
    kinds: Iterable[int] | None = None,
    since: int | None = None,
    until: int | None = None,
    limit: int | None = None,
    **tags: Iterable[str],
) -> Filter:
    return Filter(
        ids=None if ids is None else frozenset(ids),
        authors=None if authors is None else frozenset(map(author, authors)),
        kinds=None if kinds is None else frozenset(kinds),
        tags=tuple((letter, frozenset(values)) for letter, values in sorted(tags.items())),
        since=since,
        until=until,
        limit=limit,
    )


def never() -> bool:
    return False


def always() -> bool:
    return True


def outcomes(committed: Sequence[Committed]) -> list[Outcome]:
    return [one.outcome for one in committed]


def commit(writer: EventWriter, *records: Record, now: int = NOW) -> list[Outcome]:
    return outcomes(writer.commit(records, now))


class Hiding:
    """A guard that hides what matches its filters, but for every third event or so."""

    def __init__(
        self,
        *filters: Filter,
        shows: Callable[[Event], bool] | None = None,
        known: Sequence[Filter] | None = None,
    ) -> None:
        """Hide what matches `filters`; with `known` all of it but some of what matches these."""
        self.filters = filters
        self._known = None if known is None else tuple(known)
        self.asked = 0
        self._shows = shows or (lambda event: int(event.id[-2:], 16) % 3 == 0)

    def allows(self, raw: bytes) -> bool:
        self.asked += 1
        event = decode_event(raw)
        if not matches_any(self.filters, event):
            return True
        return (self._known is None or matches_any(self._known, event)) and self._shows(event)

    def exceptions(self, _hidden: Filter) -> tuple[Filter, ...] | None:
        return self._known


def drain(
    query: Query, max_events: int = 10_000, budget: Callable[[], bool] = never
) -> list[bytes]:
    rows: list[bytes] = []
    for _ in range(100_000):
        page = query.page(max_events, 1 << 30, budget)
        assert len(page.rows) <= max_events
        rows += page.rows
        if page.finished:
            return rows
    raise AssertionError("the query does not end")


def ask(
    reader: EventReader,
    *filters: Filter,
    default_limit: int = LIMIT,
    now: int = NOW,
    guard: Guard | None = None,
) -> list[str]:
    """Return the ids that the filters give, in order."""
    query = reader.query(filters, default_limit, now, guard)
    return [decode_event(raw).id for raw in drain(query)]


def completeness(
    reader: EventReader,
    *filters: Filter,
    default_limit: int = LIMIT,
    now: int = NOW,
    guard: Guard | None = None,
) -> bool | None:
    query = reader.query(filters, default_limit, now, guard)
    drain(query)
    return query.complete


def counted(
    reader: EventReader,
    *filters: Filter,
    now: int = NOW,
    guard: Guard | None = None,
    sketch: HyperLogLog | None = None,
) -> int:
    counting = reader.count(filters, now, guard, sketch)
    for _ in range(100_000):
        if counting.step(always):
            return counting.total
    raise AssertionError("the count does not end")


def ids_of(records: Iterable[Record]) -> list[str]:
    """Return the records' ids in NIP-01's order."""
    events = sorted((r.event for r in records), key=lambda e: (-e.created_at, e.id))
    return [event.id for event in events]


def listed(
    reader: EventReader,
    asked: Filter,
    now: int = NOW,
    budget: Callable[[], bool] = always,
    guard: Guard | None = None,
) -> list[tuple[int, str]]:
    """Return the (created_at, id) that a listing gives, in its order."""
    listing = reader.list(asked, now, guard)
    items: list[bytes] = []
    for _ in range(100_000):
        step = listing.step(budget)
        items += step.items
        if step.finished:
            return [(int.from_bytes(item[:8]), item[8:].hex()) for item in items]
    raise AssertionError("the listing does not end")
