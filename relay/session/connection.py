"""One connection: its scope, its reader, and what it does with the peer's messages.

    connection nursery
    ├─ reader          this task: receives, asks the peer's state machine, does what it says
    ├─ writer          the only one that sends (`writer`)
    ├─ pinger          ends the connection when the peer has gone silent (`pinger`)
    ├─ subscriptions   one task with a nursery of its own for each (`subscription`)
    ├─ counts          a few at once
    └─ reconciliations one task for each (`reconciliation`)

The reader never waits for a verification or a commit, and answers a query itself only as far as
its first page goes. It pauses only when a bound is reached: answers that the peer does not read,
its own events that have no answer yet, the relay's ingest queue; or while the relay itself acts on
one of its events (`steward`). Then the kernel's buffers fill and TCP pushes back; no message is
dropped (F4).

However the connection ends (Close, FIN, RST, silence, a stalled socket, a drain, a fault), leaving
the nursery ends every task in it (P1).

When we end it, every event that was taken is answered before the Close: new ones are refused, the
answers of those under way are waited for, the queue is flushed, then the Close is sent (P7). After
a Close nothing can be answered any more; what comes all the same is counted.
"""

import math
from typing import Final

import trio

from relay.errors import ConnectionLost, PeerClosed, ProtocolViolation, StoreError
from relay.protocol.event import Event
from relay.protocol.hyperloglog import HyperLogLog
from relay.protocol.messages import auth_challenge, closed, count, neg_error, notice, ok
from relay.protocol.session import (
    Count,
    EndReconciliation,
    Peer,
    Publish,
    Reconcile,
    ReconcileFurther,
    Refuse,
    RefuseReconciliation,
    Reply,
    Subscribe,
    Unsubscribe,
)
from relay.session.core import Core, Ending
from relay.session.frames import text_frame
from relay.session.framing import PLAIN, framing_for
from relay.session.front_door import Request
from relay.session.ingest import SHUTTING_DOWN, Ingest
from relay.session.pinger import until_silent
from relay.session.reconciliation import Reconciliations
from relay.session.steward import Steward
from relay.session.stream import SocketStream, linger
from relay.session.subscription import Subscription
from relay.session.transport import BINARY, Message, WebSocket
from relay.session.writer import STALLED, Writer
from relay.store.api import Counting

_POLICY_VIOLATION: Final = 1008
_CLOSING: Final = "error: the connection is being closed"
_TOO_SLOW: Final = "slow consumer: events were not read in time"
_BINARY_REFUSED = text_frame(notice("invalid: binary messages are not understood; send text"))
_MESSAGES_PER_CHECKPOINT: Final = 32
_TURN_SECONDS: Final = 0.001
"""So long the reader answers requests before the others have their turn; a page may take longer."""


class Connection:
    """One WebSocket. `run` is its whole life; it returns when everything about it has ended."""

    def __init__(
        self,
        core: Core,
        ingest: Ingest,
        stream: SocketStream,
        *,
        steward: Steward | None = None,
        address: str,
        hosts: frozenset[str],
        challenge: str,
    ) -> None:
        self._core = core
        self._ingest = ingest
        self._steward = steward
        self._ruled_kinds = frozenset() if steward is None else steward.kinds
        self._stream = stream
        self.address = address
        """The peer's address, without the port."""
        self.writer = Writer(
            stream,
            on_lost=self._lose,
            capacity=core.capacity.outbox_chunks,
            max_bytes=core.capacity.outbox_bytes,
            write_timeout=core.timing.write_timeout,
        )
        self._socket = WebSocket(
            stream,
            max_message_length=core.limits.max_message_length,
            send_control=self.writer.control,
        )
        self.hosts = hosts
        """The names under which the relay is reached here."""
        self._peer = Peer(
            core.limits,
            core.verifier,
            challenge=challenge,
            hosts=hosts,
        )
        self._framing = PLAIN
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._flushed = trio.Event()
        self._subscriptions: dict[str, Subscription] = {}
        self.turn = core.turns.of_connection()
        """For the pages of its subscriptions and counts."""
        self.searching = core.searches.of_connection(core.timing.search_timeout)
        """For what these have to look up first."""
        self._reconciliations = Reconciliations(core, self.writer)
        self._counting = trio.CapacityLimiter(core.capacity.counts)
        self._unanswered = 0
        self._room = trio.lowlevel.ParkingLot()
        self._last_heard = trio.current_time()
        self._last_published = -math.inf
        self._paused = False
        self._asking = False
        self._closing = False
        self._counts = 0
        self._counted_values = 0
        """Of the filters of these counts."""
        self._messages = 0
        self._events = 0
        self._reason = ""
        self._ending: Ending | None = None

    @property
    def authenticated(self) -> set[str]:
        """The pubkeys that have authenticated on this connection (NIP-42)."""
        return self._peer.authenticated

    @property
    def subscriptions_behind(self) -> int:
        """Subscriptions that were live and cannot keep up."""
        return sum([one.is_behind for one in self._subscriptions.values()])

    @property
    def backlog_events(self) -> int:
        """Events that wait for room in the writer's queue."""
        return sum([one.backlog_events for one in self._subscriptions.values()])

    @property
    def reconciliations(self) -> int:
        """Open reconciliations (NIP-77)."""
        return len(self._reconciliations)

    def is_settled(self, quiet_since: float) -> bool:
        """Tell whether there is nothing left to do for the peer but to flush what is queued.

        That is so when it has published nothing since `quiet_since` (in Trio's time), all it had
        published before is answered, and every subscription was handed all that there is.
        """
        return (
            not self._paused
            and self._last_published <= quiet_since
            and not self._unanswered
            and not self._counts
            and all(one.is_settled for one in self._subscriptions.values())
        )

    async def run(self, request: Request) -> None:
        """Complete the handshake, serve the peer until either side ends it, and clean up.

        Closing the stream is the caller's part. When cancelled, everything ends at once and no
        Close is sent: see `begin_close`.
        """
        began = trio.current_time()
        try:
            with self._scope:
                await self._accept(request)
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._watch)
                    self._answer(auth_challenge(self._peer.challenge))
                    self.writer.flush()
                    await self._read(nursery)
                    await self._part()
                    nursery.cancel_scope.cancel()
        except ConnectionLost:
            self._end(Ending.REFUSED, "the opening handshake failed")
            raise
        except Exception:
            self._end(Ending.FAULT, "a fault of the relay")
            raise
        finally:
            self._end(Ending.FORCED, "ended by the relay")
            assert self._ending is not None  # noqa: S101 - set right above
            self._core.counters.endings[self._ending] += 1
            self._core.counters.messages_too_late += self._socket.too_late
            self._release()
            self._core.journal(
                "info",
                "connection closed",
                address=self.address,
                seconds=round(trio.current_time() - began, 3),
                messages=self._messages,
                events=self._events,
                ending=self._ending.value,
                reason=self._reason,
            )

    def _end(self, ending: Ending, reason: str) -> None:
        """Note how it ends: the first to know is right."""
        if self._ending is None:
            self._ending = ending
            self._reason = reason

    def _release(self) -> None:
        """Let go of everything that refers back to this connection.

        So its memory is free at once, without the collector, which would stop the relay for 0.4 s
        when there are 5,000 others to look at.
        """
        for subscription in self._subscriptions.values():
            subscription.close()
        self._subscriptions.clear()
        self._reconciliations.close_all()
        self._nursery = None
        self.writer.forget()

    def begin_close(self, ending: Ending, code: int, reason: str) -> None:
        """Start to end it in good order: answer, flush, Close, the peer's Close. Synchronous.

        `run` returns when the peer has answered the Close, or `close_timeout` after the flush.
        """
        if self._closing:
            return
        self._closing = True
        self._end(ending, reason)
        self._close_subscriptions()
        if self._nursery is None:
            self._scope.cancel()  # still in the opening handshake
        elif self._unanswered:
            self._nursery.start_soon(self._finish_answered, code, reason)
        else:
            self._finish(code, reason)

    def too_slow(self) -> None:
        """Begin to close, because the peer does not read what it has subscribed to."""
        self.begin_close(Ending.SLOW, _POLICY_VIOLATION, _TOO_SLOW)

    def cut_off(self) -> None:
        """End it at once, because the relay's time is up. Synchronous."""
        self._ending = Ending.FORCED
        self._reason = "cut off: the time for draining was up"
        if not self._closing:
            self._close_subscriptions()
        self._cut()

    def _close_subscriptions(self) -> None:
        counters = self._core.counters
        for subscription in self._subscriptions.values():
            counters.subscriptions_unsettled += not subscription.is_settled
            subscription.close()
        self._reconciliations.close_all()

    async def _finish_answered(self, code: int, reason: str) -> None:
        with trio.move_on_after(self._core.timing.close_timeout):
            while self._unanswered:
                await self._room.park()
        self._finish(code, reason)

    def _finish(self, code: int, reason: str) -> None:
        self.writer.finish(self._socket.close_frame(code, reason))
        assert self._nursery is not None  # noqa: S101 - it is there as long as anything runs
        self._nursery.start_soon(self._expire)

    def answered(self) -> None:
        """Note that one more of this connection's events has been answered."""
        self._unanswered -= 1
        if self._room:
            self._room.unpark_all()

    async def _accept(self, request: Request) -> None:
        with trio.move_on_after(self._core.timing.handshake_timeout) as patience:
            await self._socket.accept(request.head, compression=self._core.compression)
        if patience.cancelled_caught:
            raise ConnectionLost("the opening handshake took too long")
        self._framing = framing_for(self._socket.compression)

    async def _read(self, nursery: trio.Nursery) -> None:
        core, ingest, writer = self._core, self._ingest, self.writer
        counters = core.counters
        try:
            while True:
                messages = await self._socket.receive()
                self._last_heard = trio.current_time()
                now = core.now()
                turn_ends = core.steady_clock() + _TURN_SECONDS
                for number, message in enumerate(messages, 1):
                    asked = self._receive(message, now, nursery)
                    if (
                        not writer.has_room
                        or ingest.is_full
                        or self._unanswered >= core.capacity.unanswered_events
                        or self._asking
                    ):
                        await self._wait_room()
                    elif number % _MESSAGES_PER_CHECKPOINT == 0 or (
                        asked and core.steady_clock() >= turn_ends
                    ):
                        writer.flush()
                        await trio.lowlevel.checkpoint()
                        turn_ends = core.steady_clock() + _TURN_SECONDS
                self._messages += len(messages)
                counters.messages += len(messages)
                writer.flush()
        except ConnectionLost as error:
            self._end(_ENDINGS.get(type(error), Ending.LOST), str(error))
            if not isinstance(error, PeerClosed | ProtocolViolation):
                # nobody is there to read what is left
                self._scope.cancel()

    def _receive(self, message: Message, now: int, nursery: trio.Nursery) -> bool:
        """Do what the message asks; tell whether the store was asked something for it."""
        if message is BINARY:
            self.writer.stage_answer(_BINARY_REFUSED)
            return False
        assert isinstance(message, bytes)  # noqa: S101 - there is no third kind of message
        action = self._peer.receive(message, now)
        if type(action) is Publish:
            self._publish(action.event, now, nursery)
        elif type(action) is Reply:
            self._answer(action.text)
        elif type(action) is Subscribe:
            return self._subscribe(action, now, nursery)
        elif type(action) is Unsubscribe:
            self._subscriptions.pop(action.subscription_id).close()
        elif type(action) is Refuse:
            self._replace(action.subscription_id)
            self._answer(action.text)
        elif type(action) is Count:
            return self._count(action, now, nursery)
        elif type(action) is ReconcileFurther:
            self._reconciliations.receive(action.reconciliation_id, action.payload)
        elif type(action) is Reconcile:
            self._reconcile(action, now, nursery)
        elif type(action) is EndReconciliation:
            self._reconciliations.close(action.reconciliation_id)
        elif type(action) is RefuseReconciliation:
            self._reconciliations.close(action.reconciliation_id)
            self._answer(action.text)
        return False

    def _publish(self, event: Event, now: int, nursery: trio.Nursery) -> None:
        self._events += 1
        self._last_published = self._last_heard
        if self._core.draining or self._closing:
            self._core.counters.events_refused += 1
            reason = SHUTTING_DOWN if self._core.draining else _CLOSING
            self._answer(ok(event.id, accepted=False, reason=reason))
            return
        verdict = self._core.policy.judge_event(event, self, now)
        if verdict is not None:
            self._core.counters.events_refused += 1
            self._answer(ok(event.id, accepted=False, reason=verdict.reason))
            return
        self._unanswered += 1
        if event.kind in self._ruled_kinds and self._steward is not None:
            # the reader waits for it: what follows may rest on it
            self._asking = True
            nursery.start_soon(self._ask, self._steward, event)
        else:
            self._ingest.submit(event, self)

    async def _ask(self, steward: Steward, event: Event) -> None:
        """Have the relay itself act on an event, once those before it are settled."""
        while self._unanswered > 1:
            await self._room.park()
        accepted, reason = await steward.ask(event, self)
        if not accepted:
            self._core.counters.events_refused += 1
        self._answer(ok(event.id, accepted=accepted, reason=reason))
        self.writer.flush()
        self._asking = False
        self.answered()

    def _subscribe(self, action: Subscribe, now: int, nursery: trio.Nursery) -> bool:
        subscription_id = action.subscription_id
        self._replace(subscription_id)
        verdict = self._core.policy.judge_request(action.filters, self, now)
        if verdict is not None or self._closing:
            self._peer.ended(subscription_id)
            reason = _CLOSING if verdict is None else verdict.reason
            self._answer(closed(subscription_id, reason))
            return False
        subscription = Subscription(
            self._core, self.writer, self._framing, subscription_id, action.filters, self
        )
        self._subscriptions[subscription_id] = subscription
        if self._core.offers is not None:
            offered = self._core.offers(action.filters, self, now)
            if offered:
                subscription.offer(offered)
        if subscription.begin():
            nursery.start_soon(subscription.run)
        return True

    def _replace(self, subscription_id: str) -> None:
        """End what is open under an id that is asked for anew."""
        replaced = self._subscriptions.pop(subscription_id, None)
        if replaced is not None:
            # what it has staged leaves before anything of its successor; more does not come
            replaced.close()

    def ended(self, subscription: Subscription) -> None:
        """Forget a subscription that the relay has ended."""
        if self._subscriptions.get(subscription.subscription_id) is subscription:
            del self._subscriptions[subscription.subscription_id]
            self._peer.ended(subscription.subscription_id)

    def _reconcile(self, action: Reconcile, now: int, nursery: trio.Nursery) -> None:
        name = action.reconciliation_id
        verdict = self._core.policy.judge_request((action.filter,), self, now)
        if verdict is not None or self._closing:
            self._reconciliations.close(name)
            self._answer(neg_error(name, _CLOSING if verdict is None else verdict.reason))
            return
        self._reconciliations.begin(name, action.filter, action.payload, self, nursery)

    def _count(self, action: Count, now: int, nursery: trio.Nursery) -> bool:
        core = self._core
        verdict = core.policy.judge_request(action.filters, self, now)
        if verdict is not None:
            self._answer(closed(action.query_id, verdict.reason))
            return False
        values = sum([filter_.values for filter_ in action.filters])
        reason = self._too_many_counts(values)
        if reason is not None:
            self._answer(closed(action.query_id, reason))
            return False
        try:
            sketch = None if action.offset is None else HyperLogLog(action.offset)
            counting = core.reader.count(action.filters, now, core.reading.guard(self), sketch)
            if (
                not core.turns.are_waited_for
                and counting.lookup is None
                and counting.step(core.page_budget())
            ):
                self._answer(_total(action.query_id, counting, sketch))
            else:
                self._counts += 1
                self._counted_values += values
                nursery.start_soon(self._count_on, action.query_id, counting, sketch, values)
        except StoreError as error:
            self._answer(self._count_failed(action.query_id, error))
        return True

    def _too_many_counts(self, values: int) -> str | None:
        """Return why no further count with so many values in its filters is made, or `None`."""
        limits = self._core.limits
        if self._counts >= limits.max_subscriptions:
            return f"rate-limited: {self._counts} counts are under way on this connection"
        if self._counted_values + values > limits.max_open_values:
            return (
                "rate-limited: the filters of all counts under way on a connection hold at most"
                f" {limits.max_open_values} values together"
            )
        return None

    async def _count_on(
        self, query_id: str, counting: Counting, sketch: HyperLogLog | None, values: int
    ) -> None:
        try:
            async with self._counting:
                if counting.lookup is not None:
                    await self.searching.wait_indexed(self._core.reader.head())
                done = False
                while not done:
                    if (lookup := counting.lookup) is not None:
                        await self.searching.look_up(lookup)
                    done = await self.turn.take(lambda: counting.step(self._core.page_budget()))
            answer = _total(query_id, counting, sketch)
        except StoreError as error:
            answer = self._count_failed(query_id, error)
        finally:
            self._counts -= 1
            self._counted_values -= values
        await self.writer.send(lambda: text_frame(answer))

    def _count_failed(self, query_id: str, error: StoreError) -> bytes:
        self._core.journal("error", "count failed", reason=str(error))
        return closed(query_id, f"error: {error}")

    def _answer(self, text: bytes) -> None:
        self.writer.stage_answer(text_frame(text))

    async def _wait_room(self) -> None:
        self.writer.flush()
        self._paused = True
        await self.writer.wait_room()
        await self._ingest.wait_room()
        while self._asking or self._unanswered >= self._core.capacity.unanswered_events:
            await self._room.park()
        self._paused = False
        # while the reader paused it was us who did not listen
        self._last_heard = trio.current_time()

    async def _write(self) -> None:
        await self.writer.run()
        self._flushed.set()

    async def _watch(self) -> None:
        await until_silent(self._heard, self._ping, self._core.timing)
        self._end(Ending.SILENT, "silent: no sign of life within the pong timeout")
        self._cut()

    def _heard(self) -> float:
        # while the reader pauses it is us who do not listen, for as long as a disk may hang
        return trio.current_time() if self._paused else self._last_heard

    def _ping(self) -> None:
        frame = self._socket.ping_frame()
        if frame:
            self.writer.control(frame)

    async def _part(self) -> None:
        """Let the last control frame reach the peer, and the peer finish what it was sending."""
        for subscription in self._subscriptions.values():
            subscription.close()
        self.writer.abandon()
        with trio.move_on_after(self._core.timing.close_timeout):
            await self._flushed.wait()
            await linger(self._stream)

    async def _expire(self) -> None:
        await self._flushed.wait()
        await trio.sleep(self._core.timing.close_timeout)
        self._scope.cancel()

    def _lose(self, reason: str) -> None:
        """End at once: nothing can be sent any more."""
        if self._ending in _IN_GOOD_ORDER and not self._flushed.is_set():
            self._ending = None  # it did not come to that
        self._end(Ending.STALLED if reason is STALLED else Ending.LOST, reason)
        self._cut()

    def _cut(self) -> None:
        """End at once, by a reset: the peer shall not take what it got for everything."""
        self._stream.reset()
        self._scope.cancel()


def _total(query_id: str, counting: Counting, sketch: HyperLogLog | None) -> bytes:
    return count(query_id, counting.total, sketch, approximate=not counting.is_exact)


_IN_GOOD_ORDER: Final = (Ending.DRAINED, Ending.SLOW)
_ENDINGS: Final = {PeerClosed: Ending.PEER, ProtocolViolation: Ending.VIOLATION}
