"""Those who listen: many connections with subscriptions, all with the same filter.

Connections are opened a bounded number at a time, each with its subscriptions, and counted as open
when every one of these had its EOSE. From then on until `leave` the only task of each is the one
that reads.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import trio

from relay.check.connection import Connection, How, Leave
from relay.check.dial import Dialer
from relay.check.errors import RelayUnreachable
from relay.check.incidents import Incidents
from relay.check.ledger import Arrival, Ledger
from relay.check.messages import (
    EventArrived,
    Notice,
    Other,
    StoredEnded,
    SubscriptionClosed,
    understand,
)

_EOSE_DEADLINE: Final = 30.0
_LEAVE_PATIENCE: Final = 5.0
_GIVE_UP_AFTER: Final = 100
"""So many connections that cannot be opened are enough to know."""

Receive = Callable[[int, str, float], Arrival]
"""Notes that a subscription has received the event of an id at a time, and says what that is."""


class Listener:
    """One connection of an audience. Its subscriptions are called `s` and a number."""

    __slots__ = ("_audience", "_count", "_first", "_number", "_waiting", "connection", "opened")

    def __init__(
        self, audience: "Audience", connection: Connection, number: int, first: int, count: int
    ) -> None:
        self._audience = audience
        self._number = number
        self._first = first
        self._count = count
        self._waiting = set(range(count))
        self.connection = connection
        self.opened = trio.Event()
        """Set when every subscription is open, or never will be."""

    async def run(self) -> None:
        """Read until the connection ends."""
        ending = await self.connection.run(self._handle)
        if ending.how is not How.LEFT:
            self._audience.incidents.connection_ended(f"connection {self._number}", ending.text)
        self._waiting.clear()
        self.opened.set()
        for subscription in range(self._count):
            self._audience.ended(self._first + subscription)

    def subscribe(self, filters: bytes) -> None:
        """Ask for all subscriptions."""
        for subscription in range(self._count):
            self.connection.post(b'["REQ","s%d",%b]' % (subscription, filters))

    def give_up_waiting(self) -> None:
        """Take those that had no EOSE yet for refused."""
        for subscription in sorted(self._waiting):
            self._end(subscription, f"no EOSE within {_EOSE_DEADLINE:.0f} s")

    def _handle(self, message: bytes, now: float) -> None:
        said = understand(message)
        if type(said) is EventArrived:
            subscription = self._index(said.subscription)
            if subscription is None:
                self._audience.incidents.strange_message(f"an event for {said.subscription!r}")
            else:
                self._audience.received(self._first + subscription, said.event_id, now)
        elif isinstance(said, StoredEnded):
            self._open(self._index(said.subscription))
        elif isinstance(said, SubscriptionClosed):
            subscription = self._index(said.subscription)
            if subscription is not None:
                self._end(subscription, f"CLOSED {said.reason}".rstrip())
        elif isinstance(said, Notice):
            self._audience.incidents.notice(said.text)
        elif isinstance(said, Other) and not said.is_known:
            self._audience.incidents.strange_message(said.text)

    def _index(self, name: str) -> int | None:
        """Return the number of the subscription that is called so, among this connection's."""
        digits = name[1:]
        if name[:1] != "s" or not digits.isdecimal() or not digits.isascii():
            return None
        index = int(digits)
        return index if index < self._count else None

    def _open(self, subscription: int | None) -> None:
        if subscription in self._waiting:
            self._waiting.remove(subscription)
            if not self._waiting:
                self.opened.set()

    def _end(self, subscription: int, why: str) -> None:
        name = f"subscription {self._first + subscription} (s{subscription} of {self._number})"
        self._audience.incidents.subscription_ended(name, why)
        self._audience.ended(self._first + subscription)
        self._open(subscription)


class Audience:
    """Connections that listen. `nursery` is where they live."""

    def __init__(
        self,
        dialer: Dialer,
        ledger: Ledger,
        receive: Receive,
        incidents: Incidents,
        nursery: trio.Nursery,
    ) -> None:
        self._dialer = dialer
        self._ledger = ledger
        self._receive = receive
        self._nursery = nursery
        self._listeners: list[Listener] = []
        self.incidents = incidents
        self.gone: Callable[[], None] = _nothing
        """Called when the last subscription has ended."""

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return sum(not listener.connection.has_ended for listener in self._listeners)

    @property
    def is_gone(self) -> bool:
        """Whether nobody listens."""
        return not self._ledger.live_subscriptions

    async def open(self, filters: bytes, counts: Sequence[int], at_once: int) -> None:
        """Open a connection for each of `counts`, with so many subscriptions each.

        Connections that cannot be opened are incidents; when it is the very first one,
        `RelayUnreachable` is raised. Cancelled, those that are open stay open.
        """
        pending = iter(enumerate(counts))
        await self._open_some(filters, [next(pending)], is_first=True)
        async with trio.open_nursery() as opening:
            for _ in range(min(at_once, len(counts) - 1)):
                opening.start_soon(self._open_some, filters, pending)

    async def leave(self, ways: Sequence[Leave], at_once: int) -> None:
        """Leave with every connection, in turns by each of `ways`. Cancelled, some may be open."""
        pending = iter(list(enumerate(self._listeners)))

        async def leave_some() -> None:
            for index, listener in pending:
                await listener.connection.leave(ways[index % len(ways)], _LEAVE_PATIENCE)

        async with trio.open_nursery() as leaving:
            for _ in range(at_once):
                leaving.start_soon(leave_some)

    def received(self, subscription: int, event_id: str, now: float) -> None:
        """Note a delivery."""
        arrival = self._receive(subscription, event_id, now)
        if arrival is not Arrival.EXPECTED:
            event = self._ledger.event(event_id)
            what = event_id[:16] if event is None else f"event {event.number}"
            self.incidents.tell(f"subscription {subscription}: {what} {arrival.value}")

    def ended(self, subscription: int) -> None:
        """Note that a subscription has ended."""
        self._ledger.end_subscription(subscription)
        if self.is_gone:
            self.gone()

    async def _open_some(
        self,
        filters: bytes,
        pending: Iterable[tuple[int, int]],
        *,
        is_first: bool = False,
    ) -> None:
        for number, count in pending:
            if self.incidents.not_opened.total() >= _GIVE_UP_AFTER:
                return
            try:
                connection = await self._dialer.dial()
            except RelayUnreachable as error:
                if is_first:
                    raise
                self.incidents.not_open(str(error))
                continue
            first = self._ledger.subscriptions
            for _ in range(count):
                self._ledger.add_subscription()
            listener = Listener(self, connection, number, first, count)
            self._listeners.append(listener)
            self._nursery.start_soon(listener.run)
            listener.subscribe(filters)
            with trio.move_on_after(_EOSE_DEADLINE):
                await listener.opened.wait()
            listener.give_up_waiting()


def _nothing() -> None:
    pass
