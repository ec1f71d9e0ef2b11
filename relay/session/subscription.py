"""One subscription: a position in the log, a scope, and a feeder that moves the position.

    stored    pages of the stored query, up to the position that the query began at, then EOSE
    catch-up  the log after the position, until it meets what has been published
    live      new events are handed over by the publisher, straight to the connection's writer

A subscription enters live in the very step in which it finds that its position is that of the
published log, and leaves it in the very step in which its connection's queue is full. In both
steps nobody else runs, so no event falls between, and none is sent twice: whoever sends, the
position says what has been sent (P3). A slow reader costs one integer (P4).

Everything that belongs to a subscription runs in its nursery, and ends with its scope: on CLOSE,
on replacement, with the connection (P1).
"""

from collections.abc import Callable

import trio

from relay.errors import StoreError
from relay.protocol.event import expiration
from relay.protocol.filters import Filter, matches_any
from relay.protocol.messages import closed, eose, event_prefix
from relay.session.core import Core
from relay.session.frames import text_frame
from relay.session.framing import Framing, Published
from relay.session.writer import Writer


class Subscription:
    """One subscription of one connection. `run` is its life; cancelling `scope` is its end."""

    __slots__ = (
        "_behind",
        "_core",
        "_filters",
        "_framing",
        "_live",
        "_on_ended",
        "key",
        "position",
        "prefix",
        "scope",
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
        on_ended: Callable[["Subscription"], None],
    ) -> None:
        self._core = core
        self._filters = filters
        self._on_ended = on_ended
        self._behind = trio.lowlevel.ParkingLot()
        self._live = False
        self.writer = writer
        self.subscription_id = subscription_id
        self._framing = framing
        self.prefix = event_prefix(subscription_id)
        self.key = framing.key(self.prefix)
        """Under which frames for this subscription are found among a published event's frames."""
        self.position = 0
        """Every matching event up to this seq was handed to the writer."""
        self.scope = trio.CancelScope()

    def close(self) -> None:
        """End it: nothing more is handed to the writer from this moment on. Synchronous."""
        self._live = False
        self._core.matcher.remove(self)
        self.scope.cancel()

    async def run(self) -> None:
        """Serve the subscription until its scope is cancelled, or the store fails it."""
        try:
            with self.scope:
                async with trio.open_nursery():
                    await self._feed()
        finally:
            self.close()

    def deliver(self, seq: int, event: Published) -> bool:
        """Take a newly published event, in log order; tell whether it was handed to the writer.

        `seq` is 0 for an ephemeral event. Called for every event that matches, live or not: when
        not live the feeder will read it from the log, if it is there.
        """
        if seq:
            if not self._live or seq <= self.position:
                return False
            if self._stage(event):
                self.position = seq
                return True
            # everything before `seq` was matched and, where it was wanted, handed over
            self.position = seq - 1
            self._live = False
            self._core.counters.fell_behind += 1
            self._behind.unpark_all()
            return False
        if self._stage(event):
            return True
        self._core.counters.ephemeral_dropped += 1
        return False

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
        core = self._core
        # before the first read: whatever is published from now on will find it
        core.matcher.add(self, self._filters)
        try:
            await self._send_stored()
            while True:
                await self._catch_up()
                # no checkpoint between the last look at the log and this
                self._live = True
                await self._behind.park()
        except StoreError as error:
            core.journal("error", "subscription failed", reason=str(error))
            answer = text_frame(closed(self.subscription_id, f"error: {error}"))
            await self.writer.send(lambda: answer)
            self._on_ended(self)

    async def _send_stored(self) -> None:
        core, capacity = self._core, self._core.capacity
        query = core.reader.query(self._filters, core.limits.default_limit, core.now())
        self.position = query.position
        # 12 to 25 µs to compress an event instead of 1: smaller pages keep the others' turn near
        page_events = max(1, capacity.page_events // self._framing.work)
        page_bytes = capacity.page_bytes // self._framing.work
        finished = False
        while not finished:
            page = query.page(page_events, page_bytes, core.page_budget())
            finished = page.finished
            last = text_frame(eose(self.subscription_id, complete=query.complete))
            await self._send(page.rows, last if finished else b"")

    async def _catch_up(self) -> None:
        core = self._core
        while self.position < core.log.position:
            entries, reached = core.read_log(self.position)
            now = core.now()
            rows = [
                record.raw
                for _, record in entries
                if matches_any(self._filters, record.event)
                and ((expires := expiration(record.event)) is None or expires > now)
            ]
            await self._send(rows)
            # only now: a position never runs ahead of what was handed over
            self.position = reached

    async def _send(self, rows: list[bytes], last: bytes = b"") -> None:
        """Send events, then the frame `last`, when there is room. Always a checkpoint."""
        if not rows and not last:
            await trio.lowlevel.checkpoint()
            return
        self._core.counters.deliveries += len(rows)
        await self.writer.send(lambda: self._framing.event_frames(self.prefix, rows) + last)
