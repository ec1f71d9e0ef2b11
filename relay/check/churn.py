"""Connections that come, ask, and go again at once: what a relay must not keep anything of."""

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Final

import trio

from relay.check.connection import Connection, How, Leave
from relay.check.errors import RelayUnreachable
from relay.check.ground import Ground
from relay.check.messages import Notice, StoredEnded, SubscriptionClosed, understand
from relay.check.verdict import Churn

_REQUEST: Final = b'["REQ","s0",{"kinds":[1],"limit":10}]'
_EOSE_DEADLINE: Final = 30.0
_PATIENCE: Final = 5.0
_GIVE_UP_AFTER: Final = 100


class Visits:
    """So many connections, each in one of the ways of leaving, in turns."""

    def __init__(self, ground: Ground, count: int, ways: Sequence[Leave]) -> None:
        self._ground = ground
        self._count = count
        self._ways = itertools.cycle(ways)
        self._started = 0
        self._completed = 0
        self._start = time.perf_counter()

    async def run(self, at_once: int) -> None:
        """Make the visits, at most `at_once` at a time.

        Raises `RelayUnreachable` when the first one cannot be made; later failures are incidents.
        """
        numbers = iter(range(self._count))
        next(numbers)
        await self._visit(await self._ground.dialer.dial())
        async with trio.open_nursery() as nursery:
            for _ in range(at_once):
                nursery.start_soon(self._visit_some, numbers)

    def result(self) -> Churn:
        """Return the sums."""
        seconds = max(time.perf_counter() - self._start, 1e-6)
        return Churn(
            connects=self._started, completed=self._completed, per_second=self._completed / seconds
        )

    def described(self) -> str:
        """Return how it is going, in one line."""
        now = self.result()
        return f"{now.completed:,} of {self._count:,} came and went, {now.per_second:,.0f} a second"

    async def _visit_some(self, numbers: Iterator[int]) -> None:
        incidents = self._ground.incidents
        for _ in numbers:
            if incidents.not_opened.total() >= _GIVE_UP_AFTER:
                return
            try:
                connection = await self._ground.dialer.dial()
            except RelayUnreachable as error:
                incidents.not_open(str(error))
            else:
                await self._visit(connection)

    async def _visit(self, connection: Connection) -> None:
        self._started += 1
        visitor = _Visitor(connection, f"connection {self._started}", self._ground)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visitor.run)
            connection.post(_REQUEST)
            with trio.move_on_after(_EOSE_DEADLINE):
                await visitor.served.wait()
            if visitor.has_eose:
                self._completed += 1
            elif not visitor.served.is_set():
                text = f"no EOSE within {_EOSE_DEADLINE:.0f} s"
                self._ground.incidents.subscription_ended(visitor.name, text)
            await connection.leave(next(self._ways), _PATIENCE)


class _Visitor:
    """One connection of these."""

    def __init__(self, connection: Connection, name: str, ground: Ground) -> None:
        self._connection = connection
        self._incidents = ground.incidents
        self.name = name
        self.served = trio.Event()
        """Set when there is nothing to wait for any more."""
        self.has_eose = False

    async def run(self) -> None:
        ending = await self._connection.run(self._handle)
        if ending.how is not How.LEFT:
            self._incidents.connection_ended(self.name, ending.text)
        self.served.set()

    def _handle(self, message: bytes, _now: float) -> None:
        said = understand(message)
        if isinstance(said, StoredEnded):
            self.has_eose = True
            self.served.set()
        elif isinstance(said, SubscriptionClosed):
            self._incidents.subscription_ended(self.name, f"CLOSED {said.reason}".rstrip())
            self.served.set()
        elif isinstance(said, Notice):
            self._incidents.notice(said.text)
