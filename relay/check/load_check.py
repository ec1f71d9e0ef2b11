"""`relay check load`: many connections at once, every delivery counted, and nothing left behind.

The order of a load: the relay's state before → connections, each with its subscriptions → events
at a steady rate → the state during → all leave → the state after, as soon as it is what it was
before, or when waiting for that is over. With `churn` connections come and go instead.
"""

import time
from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from relay.check.address import Address
from relay.check.audience import Audience
from relay.check.author import Author
from relay.check.churn import Visits
from relay.check.connection import Leave
from relay.check.course import described, leave, publish, settle
from relay.check.descriptors import allow_descriptors
from relay.check.display import Display
from relay.check.ground import Ground, Tempo, run_check
from relay.check.ledger import Ledger
from relay.check.publisher import planned
from relay.check.server_state import ServerState, StateReader
from relay.check.verdict import (
    Server,
    Verdict,
    deliveries_of,
    delivery_failures,
    exceptions_of,
    has_settled,
    incident_failures,
    notice_remarks,
    order_remarks,
    rate_remarks,
    resource_failures,
    server_remarks,
)

OWN_DESCRIPTORS: Final = 64
"""What a process needs beside its connections."""
_FIRST_PEERS: Final = 200
"""At most so many connections come and go before a relay's state is read for the first time."""
_LOOK_AGAIN: Final = 0.5


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to check. `churn` connections that come and go, or 0: `connections` that stay."""

    address: Address
    connections: int
    subscriptions_per_connection: int
    kind: int
    publishers: int
    rate: float
    duration: float
    churn: int
    at_once: int
    """Connections that are being opened, or left, at one time."""
    ways: Sequence[Leave]
    memory_tolerance: float
    """By which part of itself the relay's memory may have grown in the end."""
    metrics_url: str | None
    strict_order: bool
    tempo: Tempo


async def check_load(plan: LoadPlan, display: Display) -> Verdict:
    """Run the check and return its verdict. Raises `CheckError` where it cannot be made."""
    at_once = plan.at_once if plan.churn else plan.connections + plan.publishers
    allow_descriptors(at_once + OWN_DESCRIPTORS)
    return await run_check(plan.address, plan.tempo, display, _Load(plan).run)


class _Load:
    """The course of a load."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._states = StateReader(plan.address, plan.metrics_url)
        self._ledger = Ledger(plan.publishers)

    async def run(self, ground: Ground) -> Verdict:
        plan = self._plan
        if not plan.churn:
            # what its first peers make a relay load and remember is not what it must give back
            ground.display.describe = lambda: "a few connections come and go first"
            first = Visits(ground, min(_FIRST_PEERS, plan.connections), plan.ways)
            with ground.interrupt.soon():
                await first.run(plan.at_once)
        await self._states.read()
        before = await self._states.read()
        return await (self._churn if plan.churn else self._load)(ground, before)

    async def _load(self, ground: Ground, before: ServerState | None) -> Verdict:
        plan, ledger = self._plan, self._ledger
        author = Author(plan.kind)
        audience = Audience(
            ground.dialer, ledger, ledger.received, ground.incidents, ground.nursery
        )
        ground.display.describe = lambda: (
            f"connecting, {audience.connections:,} of {plan.connections:,}"
        )
        counts = [plan.subscriptions_per_connection] * plan.connections
        with ground.interrupt.soon():
            await audience.open(author.filters(), counts, plan.at_once)
        start = time.perf_counter()
        ground.display.describe = lambda: described(ledger, start)
        publishers = await publish(
            ground, ledger, author, audience, plan.publishers, plan.rate, plan.duration
        )
        await settle(ground, ledger, plan.tempo.settle)
        seconds = time.perf_counter() - start
        during = await self._states.read()
        # what follows ends subscriptions on purpose
        found = deliveries_of(ledger, audience.connections, published=True)
        failures = [*delivery_failures(ledger, found, strict_order=plan.strict_order)]
        failures += incident_failures(ground.incidents)
        if not found.sent and not failures:
            failures.append("no event was sent")
        exceptions = exceptions_of(ledger)
        await leave(ground, audience, publishers, plan.ways, plan.at_once)
        server = Server(before=before, during=during, after=await self._after(ground, before))
        failures += resource_failures(server, plan.memory_tolerance)
        wanted = planned(plan.rate, plan.duration, plan.publishers)
        return Verdict(
            check="relay check load",
            url=plan.address.url,
            passed=not failures,
            was_interrupted=ground.interrupt.was_asked,
            seconds=seconds,
            failures=failures,
            remarks=[
                *rate_remarks(found, wanted),
                *order_remarks(found, strict_order=plan.strict_order),
                *notice_remarks(ground.incidents),
                *server_remarks(server),
            ],
            deliveries=found,
            exceptions=exceptions,
            server=server,
        )

    async def _churn(self, ground: Ground, before: ServerState | None) -> Verdict:
        plan = self._plan
        visits = Visits(ground, plan.churn, plan.ways)
        ground.display.describe = visits.described
        start = time.perf_counter()
        with ground.interrupt.soon():
            await visits.run(plan.at_once)
        seconds = time.perf_counter() - start
        churn = visits.result()
        during = await self._states.read()
        server = Server(before=before, during=during, after=await self._after(ground, before))
        failures = [
            *incident_failures(ground.incidents),
            *resource_failures(server, plan.memory_tolerance),
        ]
        if not churn.completed and not failures:
            failures.append("no connection was made")
        return Verdict(
            check="relay check load",
            url=plan.address.url,
            passed=not failures,
            was_interrupted=ground.interrupt.was_asked,
            seconds=seconds,
            failures=failures,
            remarks=[*notice_remarks(ground.incidents), *server_remarks(server)],
            churn=churn,
            server=server,
        )

    async def _after(self, ground: Ground, before: ServerState | None) -> ServerState | None:
        """Return the state when it is what it was `before`, or when that takes too long."""
        ground.display.describe = lambda: "waiting for the relay to let everything go"
        plan = self._plan
        state = await self._states.read()
        with ground.interrupt.now(), trio.move_on_after(plan.tempo.settle):
            while before is not None and not (
                state is not None and has_settled(before, state, plan.memory_tolerance)
            ):
                await trio.sleep(_LOOK_AGAIN)
                state = await self._states.read()
        return state
