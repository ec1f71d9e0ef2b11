"""Publishes events at a steady rate on one connection, and counts the answers.

The rate is a timetable, not a pause between two events: who was held up catches up, for some time
beyond the end if need be. A relay that does not answer is not flooded: so many events may be
without an OK, then it is waited for.
"""

import time
from typing import Final

import trio

from relay.check.author import Author
from relay.check.connection import Connection, How
from relay.check.incidents import Incidents
from relay.check.ledger import Ledger
from relay.check.messages import Answered, Notice, Other, understand

IN_FLIGHT: Final = 256
_OVERTIME: Final = 10.0
"""Seconds beyond the end in which what was held up is still published."""


class Publisher:
    """One connection that publishes. Its events are the `stream` of that number in the ledger."""

    def __init__(
        self,
        connection: Connection,
        stream: int,
        author: Author,
        ledger: Ledger,
        incidents: Incidents,
    ) -> None:
        self.connection = connection
        self._stream = stream
        self._author = author
        self._ledger = ledger
        self._incidents = incidents
        self._in_flight = 0
        self._changed = trio.Event()

    async def run(self) -> None:
        """Read the answers until the connection ends."""
        ending = await self.connection.run(self._handle)
        self._wake()
        if ending.how is not How.LEFT:
            self._incidents.connection_ended(f"publisher {self._stream}", ending.text)

    async def publish(self, rate: float, duration: float) -> None:
        """Publish `rate` events a second for `duration` seconds, or until the connection ends.

        Cancelled, no event is half sent.
        """
        start = time.perf_counter()
        latest = start + duration + _OVERTIME
        for number in range(planned(rate, duration)):
            await trio.sleep(max(0.0, start + number / rate - time.perf_counter()))
            while self._in_flight >= IN_FLIGHT and not self.connection.has_ended:
                self._changed = trio.Event()
                await self._changed.wait()
            if self.connection.has_ended or time.perf_counter() > latest:
                return
            event_id, message = self._author.event(self._ledger.sent_count)
            self._ledger.sent(event_id, self._stream, time.perf_counter())
            self._in_flight += 1
            await self.connection.send(message)

    def _handle(self, message: bytes, now: float) -> None:
        said = understand(message)
        if isinstance(said, Answered):
            self._answered(said, now)
        elif isinstance(said, Notice):
            self._incidents.notice(said.text)
        elif not isinstance(said, Other) or not said.is_known:
            shown = message[:200].decode(errors="replace")
            self._incidents.strange_message(shown)

    def _answered(self, answer: Answered, now: float) -> None:
        event_id = answer.event_id
        sent = self._ledger.event(event_id)
        accepted = answer.accepted
        if not self._ledger.answered(event_id, accepted=accepted, reason=answer.reason):
            self._incidents.strange_message(f"an OK for {event_id}, which waited for none")
            return
        assert sent is not None  # noqa: S101 - else it would have waited for none
        self._in_flight -= 1
        self._wake()
        took = (now - sent.at) * 1000
        outcome = "accepted" if accepted else f"refused ({answer.reason})"
        self._incidents.tell(f"event {sent.number} {event_id[:16]} {outcome} after {took:.1f} ms")

    def _wake(self) -> None:
        self._changed.set()


def planned(rate: float, duration: float, publishers: int = 1) -> int:
    """Return how many events are to be published at `rate` by all together: one each at least."""
    return publishers * max(1, round(rate / publishers * duration))
