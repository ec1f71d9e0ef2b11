"""What every store offers: a writer that commits batches, and readers that answer filters.

A store is an append-only *log* of accepted events, seen through indexes. Each accepted event gets
a `seq`, a positive integer that grows in commit order and is never reused. A subscription is a
position in that log: a `Query` answers with what was stored up to `Query.position`, and
`EventReader.tail` with everything after a position. Together they deliver every matching event
exactly once, because both speak of the same numbers.

Stores are synchronous and know no tasks. A query is answered in *pages*, each under a budget, so
that the caller decides when to pause. No snapshot is held between two pages: a page therefore
shows only events with `seq` ≤ `Query.position`; what was replaced, deleted or expired meanwhile is
left out.

Semantics that belong to the store, applied atomically within the commit, in batch order:

* NIP-01: of replaceable and addressable events only the newest stays (ties: lowest id).
  Ephemeral events are never given to a store (`ValueError`).
* NIP-09: a kind 5 event removes its author's events named by `e` tags (never kind 5 themselves)
  and by `a` tags (every version with `created_at` ≤ the request's, for replaceable kinds too);
  what was removed, or was named before it arrived, is refused later. The requests are kept.
* NIP-59: a gift wrap's author is nobody, so whoever it p-tags may have it deleted as well.
* NIP-62: a kind 62 event removes everything by its author with `created_at` ≤ its own, kind 5 and
  earlier kind 62 included, and the gift wraps that p-tag its author, up to the same time; none of
  it is taken again. The request is kept, and kind 5 has no effect on it. Every kind 62 event that
  reaches a store is for this relay.
* NIP-40: an event that is expired at `now` is refused; a stored one is not shown once `now` has
  reached its expiration (`expiration <= now`), and `sweep` removes it.

What the relay itself decides comes with `Terms`: a commit that is taken only if nothing has changed
since it was decided upon, and that removes what others have written.
"""

import enum
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from relay.protocol.event import Record
from relay.protocol.filters import Filter
from relay.protocol.hyperloglog import HyperLogLog


class Outcome(enum.IntEnum):
    """What became of one event of a batch."""

    STORED = 0
    """New, and durable. Its `seq` is positive."""
    DUPLICATE = 1
    """The same id is stored already."""
    SUPERSEDED = 2
    """A newer version of this replaceable or addressable event is stored."""
    DELETED = 3
    """Its author has asked for its deletion (NIP-09)."""
    EXPIRED = 4
    """Its expiration has passed (NIP-40)."""
    CONFLICT = 5
    """An expectation of the commit's terms does not hold: nothing was taken, nothing removed."""
    BURIED = 6
    """The relay has removed this event, and refuses it from then on (`Terms.bury`)."""
    VANISHED = 7
    """Its author, or who it was wrapped for, has asked to vanish (NIP-62)."""
    UNFINISHED = 8
    """There is more to remove than others should wait for. Some is gone for good, and what is to go
    is refused already; the event itself was not taken: commit it again, until this is not said."""


class Committed(NamedTuple):
    """The outcome for one event; `seq` is 0 unless it was stored."""

    outcome: Outcome
    seq: int


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """On what condition a batch is taken, and what is removed with it: the relay's own decisions.

    All of it happens in the batch's transaction, in this order: the expectations are compared with
    what is stored; `erase` and `bury` remove; the batch's events are added. So no event of the
    batch is erased by it, while one whose id is buried is refused.
    """

    expected: dict[str, str | None] = {}
    """Address → id of the version that must be the current one; `None`: there must be none."""
    erase: tuple[Filter, ...] = ()
    """Every stored event that matches is removed, whoever wrote it; limits do not count. It may be
    stored again later: who wants to prevent that refuses it, or buries its id."""
    bury: tuple[str, ...] = ()
    """Ids of events that are removed, and refused from then on, whoever wrote them."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for a filter that searches: what an index finds may be behind."""
        if any(filter_.search is not None for filter_ in self.erase):
            raise ValueError("nothing is erased by a search")

    whole: bool = False
    """Whether nothing is taken or removed when one of the events is refused (EXPIRED, DELETED,
    VANISHED, BURIED). It has that outcome then, and the others are in CONFLICT."""


class LogEntry(NamedTuple):
    """One accepted event at its place in the log. Ephemeral events, never stored, have seq 0."""

    seq: int
    record: Record


class Tail(NamedTuple):
    """A stretch of the log.

    `position` is the last seq that was looked at, which may be beyond the last entry, since
    events that were replaced, deleted or have expired are no longer shown.
    """

    entries: list[LogEntry]
    position: int


class Page(NamedTuple):
    """A part of a query's answer: events' canonical JSON, in order.

    An unfinished page may be empty: the budget ran out before the next event was found.
    """

    rows: list[bytes]
    finished: bool


Budget = Callable[[], bool]
"""Asked between bounded steps of work; true means: stop here and return what there is."""


class Guard(Protocol):
    """What one reader may not see. Hidden events are as if they were not there."""

    @property
    def filters(self) -> tuple[Filter, ...]:
        """Every event that may be hidden matches one of these."""
        ...

    def allows(self, raw: bytes) -> bool:
        """Tell whether an event, given as canonical JSON, may be shown to the reader now."""
        ...

    def exceptions(self, hidden: Filter) -> tuple[Filter, ...] | None:
        """Return filters for what may be shown of what matches `hidden`, which is one of `filters`.

        The rest is hidden for certain, without a look at it. `None`: that cannot be told.
        """
        ...


class Lookup(Protocol):
    """A piece of a query's work that may take long, and can be done in another thread."""

    def run(self) -> None:
        """Do it. Nothing else may be asked of the query meanwhile.  Raises `StoreUnavailable`."""
        ...

    def stop(self) -> None:
        """Have `run` end soon, with what it has found. For any thread, at any time."""
        ...


class Query(Protocol):
    """A stored query under way. Each call reads from a fresh, short snapshot."""

    @property
    def position(self) -> int:
        """The log's head when the query began: every event with `seq` ≤ it was considered."""
        ...

    @property
    def complete(self) -> bool | None:
        """Whether every stored match was given; `None` while unfinished or when not known.

        `False` means that a limit left matching events out, or (NIP-67) that they may exist.
        """
        ...

    @property
    def lookup(self) -> Lookup | None:
        """What the next page begins with, if that may take long; `page` does it if nobody has.

        Only a search has any (NIP-50).
        """
        ...

    def page(self, max_events: int, max_bytes: int, budget: Budget) -> Page:
        """Return the next events: newest first, ties by lowest id, across all filters, each once.

        What is found by searching comes first, by relevance (`relay.store.relevance`).

        At most `max_events`; `max_bytes` may be exceeded by one event. At least one step of work
        is done at each call, however small the budget.

        Raises `StoreUnavailable`.
        """
        ...


class Counting(Protocol):
    """A count under way."""

    @property
    def total(self) -> int:
        """The answer once `step` has returned true; before that it may go up and down."""
        ...

    @property
    def is_exact(self) -> bool:
        """Whether `total` is certain. It is not when a search could not look everywhere."""
        ...

    @property
    def lookup(self) -> Lookup | None:
        """What the next step begins with, if that may take long; see `Query.lookup`."""
        ...

    def step(self, budget: Budget) -> bool:
        """Count on until done (true) or until the budget ends (false)."""
        ...


class Listed(NamedTuple):
    """A part of a listing.

    Each item is 40 bytes: `created_at` in 8, big-endian, and the id in 32. So items sort as NIP-77
    sorts them. They come as a query's events do: newest first, ties by lowest id.
    """

    items: list[bytes]
    finished: bool


class Listing(Protocol):
    """A listing under way (NIP-77). Each call reads from a fresh, short snapshot."""

    @property
    def position(self) -> int:
        """The log's head when the listing began: every event with `seq` ≤ it was considered."""
        ...

    def step(self, budget: Budget) -> Listed:
        """List on until done or until the budget ends; each event is listed once.

        At least one step of work is done at each call. What is removed meanwhile may be listed or
        not. Raises `StoreUnavailable`.
        """
        ...


class EventReader(Protocol):
    """A reader. One belongs to one thread; any number may read beside one writer."""

    def head(self) -> int:
        """Return the seq of the last committed event; 0 for an empty store."""
        ...

    def query(
        self, filters: Sequence[Filter], default_limit: int, now: int, guard: Guard | None = None
    ) -> Query:
        """Begin to answer `filters`, OR-ed, each with its own `limit` (or `default_limit`).

        `now` is Unix seconds: what has expired by then is not shown. The result is the union of
        the filters' results, in NIP-01's order over the whole union. Filters that search (NIP-50)
        come first: their limits take the most relevant matches. What `guard` hides counts
        against no limit and plays no part in `Query.complete`.
        """
        ...

    def count(
        self,
        filters: Sequence[Filter],
        now: int,
        guard: Guard | None = None,
        sketch: HyperLogLog | None = None,
    ) -> Counting:
        """Begin to count the events that match any of `filters`, each once; limits do not count.

        What `guard` hides is not counted. The authors of what is counted are added to `sketch`,
        which can be given with a single filter only.
        """
        ...

    def list(self, filter_: Filter, now: int, guard: Guard | None = None) -> Listing:
        """Begin to list the events that match `filter_`: all, or as many as its own `limit`.

        What `guard` hides is not listed.
        """
        ...

    def tail(self, after: int, max_events: int, max_bytes: int, now: int) -> Tail:
        """Return the log after `after`, in log order; at most so many events and (about) bytes."""
        ...

    def holds_id(self, prefix: str, now: int) -> bool:
        """Tell whether an event is stored whose id begins with `prefix`: 8 digits (NIP-29)."""
        ...

    def close(self) -> None:
        """Release what the reader holds. Idempotent."""
        ...


class EventWriter(Protocol):
    """The one writer of a store."""

    def commit(
        self, records: Sequence[Record], now: int, terms: Terms | None = None
    ) -> list[Committed]:
        """Take a batch in one durable transaction; say for each event, in order, what became of it.

        When this returns, every STORED event survives a crash of the process and of the machine.
        A failure takes none of the batch. The records' ids and signatures have been verified.

        When an expectation of `terms` fails, every outcome is CONFLICT: one for each event, and one
        for a batch without events. In the same way every outcome is UNFINISHED when the terms erase
        more than one transaction should.

        Raises `StoreUnavailable` when the store cannot be written now.
        """
        ...

    def sweep(self, now: int, max_events: int) -> int:
        """Remove up to `max_events` expired events; return how many were removed."""
        ...

    def maintain(self) -> bool:
        """Do some of the housekeeping that must not run inside a commit; tell if more is urgent.

        Called when idle. It also goes on with requests to vanish that nobody has committed again.
        """
        ...

    @property
    def unindexed(self) -> int:
        """How many of the last seqs of the log are not indexed for search yet."""
        ...

    def index(self, max_events: int) -> int:
        """Index up to `max_events` further events for search; return up to which seq that is done.

        A commit does not do this, so that it is as quick as can be. Called when idle, and before
        a search. What is indexed are the words of `relay.protocol.searchable`, in any index that
        finds them by term, in a row, and by their beginning (SQLite: FTS5; PostgreSQL: a `tsvector`
        that is written out with their positions). What it has done survives a crash, or is done
        again after it.

        Raises `StoreUnavailable`.
        """
        ...

    def close(self) -> None:
        """Release what the writer holds. Idempotent."""
        ...
