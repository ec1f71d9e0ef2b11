"""The relay in memory: the product's own server, on sockets, a store and clocks of the test's.

Everything that the product bounds by large numbers is bounded by small ones here, so that a few
events meet every bound. The clocks are the test's, and the scheduler's order is drawn: an example
that fails, fails again.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import pytest
import trio

from relay.errors import StoreUnavailable
from relay.live.log import RecentLog
from relay.policy.defaults import default_policy
from relay.protocol.event import Event, Record, record
from relay.protocol.filters import Filter
from relay.protocol.hyperloglog import HyperLogLog
from relay.protocol.limits import Limits
from relay.protocol.verify import SignatureVerifier
from relay.session import connection, core, ingest, publisher, writer
from relay.session.companion import Ticket
from relay.session.core import BackPressure, Core, Timing
from relay.session.server import Admission, Server
from relay.store.api import (
    Budget,
    Committed,
    Counting,
    Guard,
    Listing,
    Lookup,
    Outcome,
    Page,
    Query,
    Tail,
    Terms,
)
from relay.store.commit_protocol import Answer
from relay.store.memory import MemoryReader, MemoryStore
from tests.session.conversations.ledger import Ledger
from tests.session.conversations.memory_transport import MemoryListener
from tests.session.conversations.pool import BEGAN
from tests.session.conversations.script import Script
from tests.session.serving import Journal, no_routes

LIMITS: Final = Limits(max_subscriptions=3, default_limit=12)
TIMING: Final = Timing(
    ping_interval=3,
    pong_timeout=3,
    write_timeout=3,
    block_timeout=1,
    close_timeout=1,
    drain_timeout=4,
    follow_interval=0.2,
    sweep_interval=2,
)
CLOSING_SLOW: Final = (BackPressure.BLOCK, BackPressure.DISCONNECT)
"""Policies by which a connection may be closed because its peer does not read."""
PATIENCE: Final = 2.5
"""A peer that leaves bytes unread for so long may be given up by the relay."""

_OUTCOMES: Final = {
    Outcome.STORED: "stored",
    Outcome.DUPLICATE: "duplicate",
    Outcome.SUPERSEDED: "superseded",
    Outcome.DELETED: "deleted",
    Outcome.EXPIRED: "expired",
}


@contextmanager
def small_bounds(turn_every: int) -> Iterator[None]:
    """Make small what is large and fixed in the product."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "_SENDS_PER_CHECKPOINT", turn_every)
        patch.setattr(publisher, "_GAP_ENTRIES", 3)
        patch.setattr(connection, "_MESSAGES_PER_CHECKPOINT", turn_every)
        patch.setattr(core, "_LOG_ENTRIES", 2)
        patch.setattr(ingest, "_LARGEST_BATCH", 4)
        patch.setattr(ingest, "_LARGEST_COMMIT", 6)
        patch.setattr(ingest, "_VERIFIED_PER_CHECKPOINT", turn_every)
        patch.setattr(writer, "_LARGEST_SEND", 600)
        yield


class PacedCommitter:
    """Commits one batch after the other, some turns after it was handed over, or fails to."""

    def __init__(self, store: MemoryStore, ledger: Ledger, turns: Sequence[int]) -> None:
        self._writer = store.writer()
        self._ledger = ledger
        self._turns = turns
        self._turn = 0
        self._waiting: deque[tuple[list[Record], int, Ticket[Answer]]] = deque()
        self._arrival = trio.lowlevel.ParkingLot()
        self.failures_due = 0
        self.failures = 0
        self.own: list[int] = []
        """The seqs of what came by way of the relay."""
        self.is_idle = True

    async def begin(
        self, records: Sequence[Record], now: int, terms: Terms | None = None
    ) -> Ticket[Answer]:
        assert terms is None
        ticket = Ticket[Answer]()
        self._waiting.append((list(records), now, ticket))
        self.is_idle = False
        self._arrival.unpark_all()
        return ticket

    async def finish(self, ticket: Ticket[Answer]) -> list[Committed]:
        answer = await ticket.wait()
        if answer.error is not None:
            raise StoreUnavailable(answer.error)
        return answer.outcomes

    async def sweep(self, now: int, max_events: int) -> int:
        return self._writer.sweep(now, max_events)

    async def index(self, position: int) -> None:
        """Do nothing: a store in memory has no index."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            while not self._waiting:
                self.is_idle = True
                await self._arrival.park()
            records, now, ticket = self._waiting.popleft()
            await self._pause()
            if self.failures_due:
                self.failures_due -= 1
                self.failures += 1
                ticket.settle(Answer(error="the disk is full"))
                continue
            outcomes = self._commit(records, now)
            self.own += [seq for _, seq in outcomes if seq]
            # it is in the store, but the relay has not been told
            await self._pause()
            ticket.settle(Answer(outcomes))

    def commit_elsewhere(self, events: Sequence[Event], now: int) -> None:
        """Commit as another process would."""
        self._commit([record(event) for event in events], now)

    def _commit(self, records: Sequence[Record], now: int) -> list[Committed]:
        outcomes = self._writer.commit(records, now)
        naive = [self._ledger.offer(one.event, now) for one in records]
        assert [_OUTCOMES[outcome] for outcome, _ in outcomes] == naive, "the store disagrees"
        return outcomes

    async def _pause(self) -> None:
        turns = self._turns[self._turn % len(self._turns)]
        self._turn += 1
        if turns < 0:
            await trio.sleep(-turns * 0.08)
        for _ in range(turns):
            await trio.lowlevel.checkpoint()


class SlowReader:
    """A reader whose queries and counts need some steps that find nothing."""

    def __init__(self, store: MemoryStore, empty_pages: int) -> None:
        self._reader: MemoryReader = store.reader()
        self._empty_pages = empty_pages

    def head(self) -> int:
        return self._reader.head()

    def query(
        self, filters: Sequence[Filter], default_limit: int, now: int, guard: Guard | None = None
    ) -> Query:
        query = self._reader.query(filters, default_limit, now, guard)
        return _SlowQuery(query, self._empty_pages) if self._empty_pages else query

    def count(
        self,
        filters: Sequence[Filter],
        now: int,
        guard: Guard | None = None,
        sketch: HyperLogLog | None = None,
    ) -> Counting:
        counting = self._reader.count(filters, now, guard, sketch)
        return _SlowCounting(counting, self._empty_pages) if self._empty_pages else counting

    def list(self, filter_: Filter, now: int, guard: Guard | None = None) -> Listing:
        return self._reader.list(filter_, now, guard)

    def tail(self, after: int, max_events: int, max_bytes: int, now: int) -> Tail:
        return self._reader.tail(after, min(max_events, 3), max_bytes, now)

    def holds_id(self, prefix: str, now: int) -> bool:
        return self._reader.holds_id(prefix, now)

    def close(self) -> None:
        self._reader.close()


class _SlowQuery:
    def __init__(self, query: Query, empty_pages: int) -> None:
        self._query = query
        self._empty_pages = empty_pages
        self._left = empty_pages

    @property
    def position(self) -> int:
        return self._query.position

    @property
    def complete(self) -> bool | None:
        return self._query.complete

    @property
    def lookup(self) -> Lookup | None:
        return self._query.lookup

    def page(self, max_events: int, max_bytes: int, budget: Budget) -> Page:
        if self._left:
            self._left -= 1
            return Page([], finished=False)
        self._left = self._empty_pages
        return self._query.page(max_events, max_bytes, budget)


class _SlowCounting:
    def __init__(self, counting: Counting, empty_steps: int) -> None:
        self._counting = counting
        self._left = empty_steps

    @property
    def total(self) -> int:
        return self._counting.total if not self._left else -1

    @property
    def lookup(self) -> Lookup | None:
        return self._counting.lookup

    @property
    def is_exact(self) -> bool:
        return self._counting.is_exact

    def step(self, budget: Budget) -> bool:
        if self._left:
            self._left -= 1
            return False
        return self._counting.step(budget)


class Stage:
    """A server to be run, and everything about it that a test may want to see."""

    def __init__(self, script: Script) -> None:
        began = trio.current_time()
        self.ledger = Ledger(lambda: BEGAN + trio.current_time() - began)
        self.store = MemoryStore()
        self.committer = PacedCommitter(self.store, self.ledger, script.commit_turns)
        self.listener = MemoryListener(self.ledger.moment)
        self.journal = Journal()
        self._ticks = 0
        self.core = Core(
            limits=LIMITS,
            policy=default_policy(LIMITS),
            verifier=SignatureVerifier(),
            reader=SlowReader(self.store, script.empty_pages),
            log=RecentLog(0, max_entries=script.log_entries),
            journal=self.journal,
            wall_clock=lambda: BEGAN + trio.current_time() - began,
            steady_clock=self._tick,
            timing=TIMING,
            capacity=script.capacity,
            back_pressure=script.back_pressure,
            compression=script.compression,
        )
        self.server = Server(
            self.core,
            self.committer,
            cast("Any", [self.listener]),
            no_routes,
            Admission(),
        )

    def now(self) -> int:
        return self.core.now()

    def _tick(self) -> float:
        # time that passes by being looked at: budgets end after a few looks
        self._ticks += 1
        return math.ldexp(self._ticks, -11)
