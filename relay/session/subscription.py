"""One subscription: a position in the log, a scope, and a feeder that moves the position.

    stored    pages of the stored query, up to the position that the query began at, then EOSE
    catch-up  the log after the position, until it meets what has been published
    live      new events are handed over by the publisher, straight to the connection's writer

The first page is made by the reader, which has the request in its hands: the answer to nearly all
requests is on its way before the subscription's task has begun (one id: p50 0.19 ms instead of
0.28). What is left then, if anything, is the task's.

A subscription enters live in the very step in which it finds that its position is that of the
published log, and leaves it in the very step in which its connection's queue is full. In both
steps nobody else runs, so no event falls between, and none is sent twice: whoever sends, the
position says what has been sent (P3). A slow reader costs one integer (P4).

That is the policy `catch-up`. By the others (`core.BackPressure`) the subscription stays live, and
what does not fit waits in a backlog of its own, from which the feeder hands it over; what does not
fit there, either, is dropped and counted, or read from the log after all. As long as anything
waits, everything goes by way of the backlog, so the order stays.

Everything that belongs to a subscription runs in its nursery, and ends with its scope: on CLOSE,
on replacement, with the connection (P1).
"""

import math
from functools import partial
from typing import Final, Protocol

import trio

from relay.errors import StoreError
from relay.policy.verdict import Client
from relay.protocol.event import has_expired
from relay.protocol.filters import Filter, matches_any
from relay.protocol.messages import closed, eose, event_prefix
from relay.session.backlog import Backlog
from relay.session.core import BackPressure, Core
from relay.session.frames import text_frame
from relay.session.framing import Framing, Published
from relay.session.searching import Searching
from relay.session.turns import Turn
from relay.session.writer import Writer
from relay.store.api import Page, Query

_DROPPING: Final = frozenset({BackPressure.DROP_OLDEST, BackPressure.DROP_NEW})


class Owner(Client, Protocol):
    """The connection, as a subscription sees it."""

    @property
    def turn(self) -> Turn:
        """For what it asks the store."""
        ...

    @property
    def searching(self) -> Searching:
        """For what takes longer to look up."""
        ...

    def ended(self, subscription: "Subscription") -> None:
        """Note that the relay has ended a subscription, and has told the peer."""
        ...

    def too_slow(self) -> None:
        """Close the connection: its peer does not read what it has subscribed to."""
        ...


class Subscription:
    """One subscription of one connection: `begin` it, then `run` it. `close` ends it."""

    __slots__ = (
        "_asked_at",
        "_backlog",
        "_behind",
        "_closed",
        "_core",
        "_filters",
        "_framing",
        "_live",
        "_owner",
        "_patience",
        "_query",
        "_scope",
        "key",
        "position",
        "prefix",
        "subscription_id",
        "writer",
    )

    def __init__(
        self,
        core: Core,
        writer: Writer,
        framing: Framing,
        subscription_id: str,
        filters: tuple[Filter, ...],
        owner: Owner,
    ) -> None:
        self._core = core
        self._filters = filters
        self._owner = owner
        self._behind = trio.lowlevel.ParkingLot()
        self._live = False
        self._closed = False
        self.writer = writer
        self.subscription_id = subscription_id
        self._framing = framing
        self.prefix = event_prefix(subscription_id)
        self.key = framing.key(self.prefix)
        """Under which frames for this subscription are found among a published event's frames."""
        self.position = 0
        """Every matching event up to this seq was handed to the writer, waits in the backlog, or
        was dropped and counted."""
        self._query: Query | None = None
        self._asked_at = 0
        self._backlog: Backlog | None = None
        """`None` while nothing waits."""
        self._patience = math.inf
        """How long, in seconds, room is waited for; then the peer is too slow."""
        self._scope: trio.CancelScope | None = None

    @property
    def reader(self) -> Client:
        """Whose rights decide what it may be told."""
        return self._owner

    @property
    def is_behind(self) -> bool:
        """Whether it has been live and cannot keep up."""
        return self._query is None and (not self._live or self._backlog is not None)

    @property
    def is_settled(self) -> bool:
        """Whether everything that there is to send was handed to the writer."""
        return self._live and self._backlog is None

    @property
    def backlog_events(self) -> int:
        """Events that wait for room in the writer's queue."""
        return 0 if self._backlog is None else len(self._backlog)

    def close(self) -> None:
        """End it: nothing more is handed to the writer from this moment on. Synchronous."""
        self._live = False
        self._closed = True
        self._core.matcher.remove(self)
        if self._scope is not None:
            self._scope.cancel()

    def offer(self, rows: list[bytes]) -> None:
        """Send events, as canonical JSON, that were made for this request, before what is stored.

        Synchronous, before `begin`.
        """
        self.writer.stage_answer(self._framing.event_frames(self.prefix, rows))
        self._core.counters.deliveries += len(rows)

    def begin(self) -> bool:
        """Send the first page of what is stored, if there is room; go live if that was all.

        Synchronous, and as long as a page. False when the store failed it: that has been answered,
        and there is nothing to run.
        """
        core = self._core
        # before the first read: whatever is published from now on will find it
        core.matcher.add(self, self._filters)
        finished = False
        try:
            guard = core.reading.guard(self._owner)
            limit = core.limits.default_limit
            self._asked_at = core.now()
            query = core.reader.query(self._filters, limit, self._asked_at, guard)
            self.position = query.position
            self._query = query
            if self.writer.has_room and not core.turns.are_waited_for and query.lookup is None:
                page = self._next_page(query)
                finished = page.finished
                frames = self._page_frames(query, page)
                if frames:
                    self.writer.stage(frames)
        except StoreError as error:
            self.writer.stage_answer(self._failed(error))
            self._owner.ended(self)
            self.close()
            return False
        # no checkpoint between this look at the log and what follows from it
        self._live = finished and self.position >= core.log.position
        return True

    async def run(self) -> None:
        """Serve the subscription, once begun, until it is closed or the store fails it."""
        if self._closed:
            return
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                await self._feed()
        finally:
            self.close()

    def deliver(self, seq: int, event: Published) -> bool:
        """Take a newly published event, in log order; tell whether it was handed to the writer.

        `seq` is 0 for an ephemeral event. Called for every event that matches, live or not: when
        not live the feeder will read it from the log, if it is there.
        """
        if seq and (not self._live or seq <= self.position):
            return False
        if self._backlog is None and self._stage(event):
            if seq:
                self.position = seq
            return True
        self._lag(seq, event)
        return False

    def deliver_at_once(self, seq: int, event: Published) -> bool:
        """Do as `deliver`, and have it sent: straight to the socket when that is idle.

        The publisher lets others run between two of these calls, so the subscription may have been
        closed since it was found to match.
        """
        if self._closed:
            return False
        frame = event.frames.get(self.key) if self.key is not None else None
        wanted = (not seq or (self._live and seq > self.position)) and self._backlog is None
        if wanted and frame is not None and self.writer.write_through(frame):
            if seq:
                self.position = seq
            return True
        delivered = self.deliver(seq, event)
        self.writer.flush()
        return delivered

    def _lag(self, seq: int, event: Published) -> None:
        """Do for an event that the writer has no room for what the policy says."""
        counters, policy = self._core.counters, self._core.back_pressure
        if self._closed:
            pass
        elif policy is BackPressure.DISCONNECT:
            counters.fell_behind += 1
            self._owner.too_slow()
        elif policy is not BackPressure.CATCH_UP and self._wait(seq, event):
            pass
        elif seq and policy not in _DROPPING:
            self._fall_behind(seq)
        else:
            self._drop(seq)

    def _wait(self, seq: int, event: Published) -> bool:
        """Let an event wait in the backlog, maybe in place of an older one."""
        core = self._core
        backlog = self._backlog
        if backlog is None:
            core.counters.fell_behind += 1
            if core.back_pressure is BackPressure.BLOCK and self._query is None:
                self._patience = core.timing.block_timeout
            capacity = core.capacity
            backlog = self._backlog = Backlog(capacity.backlog_events, capacity.outbox_bytes)
            self._behind.unpark_all()
        if core.back_pressure is BackPressure.DROP_OLDEST:
            while not backlog.has_room:
                self._drop(backlog.popleft()[0])
        elif not backlog.has_room:
            return False
        backlog.append(seq, event)
        if seq:
            self.position = seq
        return True

    def _fall_behind(self, seq: int) -> None:
        """Leave what comes from `seq` on to the feeder, who reads it from the log."""
        # everything before `seq` was matched and, where it was wanted, handed over
        self.position = seq - 1
        self._live = False
        self._core.counters.fell_behind += 1
        self._behind.unpark_all()

    def _drop(self, seq: int) -> None:
        if seq:
            self._core.counters.dropped += 1
            # not to be read from the log, either
            self.position = max(self.position, seq)
        else:
            self._core.counters.ephemeral_dropped += 1

    def _stage(self, event: Published) -> bool:
        key = self.key
        if key is None:
            # made for this connection alone, and only if it will be sent: see `OwnFraming`
            return self.writer.has_room and self.writer.stage(
                self._framing.event_frame(self.prefix, event)
            )
        frame = event.frames.get(key)
        if frame is None:
            frame = event.frames[key] = self._framing.event_frame(self.prefix, event)
        return self.writer.stage(frame)

    async def _feed(self) -> None:
        try:
            if self._query is not None:
                await self._send_stored(self._query)
            while True:
                if self._backlog is not None:
                    await self._send_backlog(self._backlog)
                if not self._live:
                    await self._catch_up()
                    # no checkpoint between the last look at the log and this
                    self._live = True
                if self._backlog is None:
                    self._patience = math.inf
                    await self._behind.park()
        except StoreError as error:
            answer = self._failed(error)
            await self.writer.send(lambda: answer)
            self._owner.ended(self)

    async def _send_backlog(self, backlog: Backlog) -> None:
        writer = self.writer
        while backlog:
            await self._wait_room()
            while backlog and writer.has_room:
                _, event = backlog.popleft()
                if event.has_expired(self._core.now()):
                    continue
                self._stage(event)
                self._core.counters.deliveries += 1
            writer.flush()
        # no checkpoint between the last look at the backlog and this
        self._backlog = None

    async def _wait_room(self) -> None:
        """Wait for room, as long as the policy has patience. Always a checkpoint."""
        with trio.move_on_after(self._patience) as waiting:
            await self.writer.wait_room()
        if waiting.cancelled_caught:
            self._owner.too_slow()
        await trio.lowlevel.checkpoint()

    async def _send_stored(self, query: Query) -> None:
        searching = self._owner.searching
        if query.lookup is not None:
            await searching.wait_indexed(query.position)
        while self._query is not None:
            lookup = query.lookup
            if lookup is not None:
                await searching.look_up(lookup)
            page = await self._owner.turn.take(partial(self._next_page, query))
            if page.rows or page.finished:
                await self.writer.send(partial(self._page_frames, query, page))

    def _next_page(self, query: Query) -> Page:
        core, capacity, work = self._core, self._core.capacity, self._framing.work
        # 12 to 25 µs to compress an event instead of 1: smaller pages keep the others' turn near
        page_events = max(1, capacity.page_events // work)
        page = query.page(page_events, capacity.page_bytes // work, core.page_budget())
        if page.finished:
            self._query = None
        now = core.now()
        if now != self._asked_at:
            # the query goes by the time when it began
            page = Page([raw for raw in page.rows if not has_expired(raw, now)], page.finished)
        core.counters.deliveries += len(page.rows)
        return page

    def _page_frames(self, query: Query, page: Page) -> bytes:
        """Return the frames of a page, with the EOSE if it is the last: to be sent, once."""
        last = b""
        if page.finished:
            last = text_frame(eose(self.subscription_id, complete=query.complete))
        return self._framing.event_frames(self.prefix, page.rows, last) if page.rows else last

    def _failed(self, error: StoreError) -> bytes:
        """Return the frame that says that the store has failed it."""
        self._core.journal("error", "subscription failed", reason=str(error))
        return text_frame(closed(self.subscription_id, f"error: {error}"))

    async def _catch_up(self) -> None:
        while self.position < self._core.log.position:
            rows, reached = await self._owner.turn.take(self._read_on)
            if rows:
                await self._wait_room()
                await self.writer.send(partial(self._framing.event_frames, self.prefix, rows))
            # only now: a position never runs ahead of what was handed over
            self.position = reached

    def _read_on(self) -> tuple[list[bytes], int]:
        """Return what it wants of the next stretch of the log, and where that ends."""
        core = self._core
        entries, reached = core.read_log(self.position)
        now = core.now()
        rows = [
            record.raw
            for _, record in entries
            if matches_any(self._filters, record.event)
            and core.reading.may_read(record.event, self._owner)
            and not has_expired(record.raw, now)
        ]
        core.counters.deliveries += len(rows)
        return rows, reached
