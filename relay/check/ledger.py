"""What was sent, what was accepted, what arrived where: the bookkeeping of a check, without I/O.

Every event has a place in the order of its *stream*, the connection that it was published on. A
subscription that is served perfectly gets 0, 1, 2, … of each stream. So its record is the number
that comes next, and the exceptions: a *gap* is a number that was passed over. When it arrives
after all, it was reordered; when it is still a gap at the end and the event was accepted, it was
lost. What arrives and is neither next, nor beyond, nor a gap, was there already: a duplicate. A
record costs 4 bytes, not a list of ids, and 5,000 subscriptions are no burden.

    next = 3, gaps = {}      3 arrives    next = 4
    next = 3, gaps = {}      5 arrives    next = 6, gaps = {3, 4}
    next = 6, gaps = {3, 4}  4 arrives    gaps = {3}, one reordered
    next = 6, gaps = {3}     4 arrives    one duplicate

A refused event leaves a gap, too, which is no loss. Subscriptions are numbered; all of them want
all events, and are open before the first is sent. One that ended early is not said to have lost
what came later: that it ended is the finding, and what it missed is counted on its own.
"""

from array import array
from collections import Counter, deque
from collections.abc import Iterator
from enum import Enum
from itertools import chain
from typing import Final

from relay.check.latency import Latencies

REMEMBERED: Final = 100_000
"""So many of the latest events are known by their ids; what comes back later is unexpected."""

_UNANSWERED: Final = 0
_ACCEPTED: Final = 1
_REFUSED: Final = 2


class Arrival(Enum):
    """What a delivery turned out to be."""

    EXPECTED = "expected"
    REORDERED = "reordered"
    DUPLICATED = "duplicated"
    UNEXPECTED = "unexpected"


class Sent:
    """An event that was sent: its place, and when that was."""

    __slots__ = ("at", "deliveries", "number", "stream")

    def __init__(self, stream: int, number: int, at: float) -> None:
        self.stream = stream
        self.number = number
        self.at = at
        self.deliveries = 0


class Ledger:
    """Knows at any time what is lost, duplicated and reordered. Times are in seconds."""

    def __init__(self, streams: int = 1, remembered: int = REMEMBERED) -> None:
        self._streams = streams
        self._remembered = remembered
        self._events: dict[str, Sent] = {}
        self._outcomes = [bytearray() for _ in range(streams)]
        # by subscription and stream
        self._next = array("I")
        self._gaps: dict[int, set[int]] = {}
        self._ended: set[int] = set()
        self.received_by = array("I")
        """Deliveries of our events on each subscription, duplicates included."""
        self.duplicated: Counter[int] = Counter()
        """On each subscription that had any; so are the next two."""
        self.reordered: Counter[int] = Counter()
        self.unexpected: Counter[int] = Counter()
        self.sent_count = 0
        self.accepted_count = 0
        self.refused: Counter[str] = Counter()
        """Refused events by the relay's reason."""
        self.latencies = Latencies()
        """From an event's sending to each delivery."""

    @property
    def subscriptions(self) -> int:
        """Subscriptions so far, ended ones included."""
        return len(self.received_by)

    @property
    def live_subscriptions(self) -> int:
        """Those that have not ended."""
        return len(self.received_by) - len(self._ended)

    @property
    def received_count(self) -> int:
        """Deliveries of our events on all subscriptions, duplicates included."""
        return sum(self.received_by)

    @property
    def unanswered_count(self) -> int:
        """Events without an OK."""
        return self.sent_count - self.accepted_count - self.refused.total()

    def add_subscription(self) -> int:
        """Open the record of a subscription; return its number."""
        self._next.extend([0] * self._streams)
        self.received_by.append(0)
        return len(self.received_by) - 1

    def end_subscription(self, subscription: int) -> None:
        """Note that nothing more will come on it. Idempotent."""
        self._ended.add(subscription)

    def has_ended(self, subscription: int) -> bool:
        """Tell whether this one has ended."""
        return subscription in self._ended

    def event(self, event_id: str) -> Sent | None:
        """Return what is known of an event; `None` if it is none of ours."""
        return self._events.get(event_id)

    def sent(self, event_id: str, stream: int, now: float) -> int:
        """Note an event that is about to be sent; return its number in the stream."""
        outcomes = self._outcomes[stream]
        number = len(outcomes)
        outcomes.append(_UNANSWERED)
        self._events[event_id] = Sent(stream, number, now)
        self.sent_count += 1
        if len(self._events) > self._remembered:
            del self._events[next(iter(self._events))]
        return number

    def answered(self, event_id: str, *, accepted: bool, reason: str = "") -> bool:
        """Note the OK of an event; tell whether it was the first one for an event of ours."""
        sent = self._events.get(event_id)
        if sent is None or self._outcomes[sent.stream][sent.number] != _UNANSWERED:
            return False
        self._outcomes[sent.stream][sent.number] = _ACCEPTED if accepted else _REFUSED
        if accepted:
            self.accepted_count += 1
        else:
            self.refused[reason] += 1
        return True

    def received(self, subscription: int, event_id: str, now: float) -> Arrival:
        """Note a delivery and say what it is."""
        sent = self._events.get(event_id)
        if sent is None:
            self.unexpected[subscription] += 1
            return Arrival.UNEXPECTED
        self.received_by[subscription] += 1
        cell = subscription * self._streams + sent.stream
        number = sent.number
        coming = self._next[cell]
        arrival = Arrival.EXPECTED
        if number >= coming:
            if number > coming:
                self._gaps.setdefault(cell, set()).update(range(coming, number))
            self._next[cell] = number + 1
        else:
            gaps = self._gaps.get(cell)
            if gaps is None or number not in gaps:
                self.duplicated[subscription] += 1
                return Arrival.DUPLICATED
            gaps.discard(number)
            self.reordered[subscription] += 1
            arrival = Arrival.REORDERED
        sent.deliveries += 1
        self.latencies.add(now - sent.at)
        return arrival

    def missing(self, subscription: int) -> Iterator[tuple[int, int]]:
        """Yield (stream, number) of the accepted events that have not arrived on this one."""
        for stream, outcomes in enumerate(self._outcomes):
            cell = subscription * self._streams + stream
            later = range(self._next[cell], len(outcomes))
            for number in chain(sorted(self._gaps.get(cell, ())), later):
                if outcomes[number] == _ACCEPTED:
                    yield stream, number

    def lost(self) -> dict[int, int]:
        """Return how much is missing on each live subscription on which something is."""
        return {
            subscription: count
            for subscription in range(self.subscriptions)
            if subscription not in self._ended
            and (count := sum(1 for _ in self.missing(subscription)))
        }

    def missed_count(self) -> int:
        """Return how much is missing on subscriptions that have ended, all together."""
        return sum(1 for subscription in self._ended for _ in self.missing(subscription))

    def is_settled(self) -> bool:
        """Tell whether every event is answered and every accepted one has arrived everywhere."""
        return not self.unanswered_count and all(
            next(self.missing(subscription), None) is None
            for subscription in range(self.subscriptions)
            if subscription not in self._ended
        )


class Phase(Enum):
    """What an agreement makes of an event that it sees for the first time."""

    OPENING = "opening"
    COMPARING = "comparing"
    SETTLING = "settling"


class Agreement:
    """Judges subscriptions to other people's events, by each other.

    Nobody says here what was sent. But subscriptions with one filter must get the same events, in
    the same order. The order is that of the first arrivals on any of them: each event is noted in a
    ledger when it is seen first, as if it had been sent and accepted then.

    While subscriptions are being opened and after the end, some have a right to what others do
    not get: what is seen first then is not judged, wherever it arrives.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._unjudged: set[str] = set()
        self._order: deque[str] = deque()
        self.phase = Phase.OPENING

    def received(self, subscription: int, event_id: str, now: float) -> Arrival:
        """Note a delivery and say what it is."""
        if event_id in self._unjudged:
            return Arrival.EXPECTED
        ledger = self._ledger
        if ledger.event(event_id) is None:
            if self.phase is not Phase.COMPARING:
                self._forgive(event_id)
                return Arrival.EXPECTED
            ledger.sent(event_id, 0, now)
            ledger.answered(event_id, accepted=True)
        return ledger.received(subscription, event_id, now)

    def _forgive(self, event_id: str) -> None:
        self._unjudged.add(event_id)
        self._order.append(event_id)
        if len(self._order) > REMEMBERED:
            self._unjudged.discard(self._order.popleft())
