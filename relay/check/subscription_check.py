"""`relay check subscription`: whether every subscription gets every event, once.

It publishes events and listens on several subscriptions to exactly these (`--publish`), or it
listens to what others publish and compares its subscriptions with each other (`--idle`).
"""

import time
from typing import Final

import msgspec
import trio

from relay.check.address import Address
from relay.check.audience import Audience
from relay.check.author import Author
from relay.check.connection import Leave
from relay.check.course import GRACE, described, leave, publish, settle
from relay.check.display import Display
from relay.check.ground import Ground, Tempo, run_check
from relay.check.ledger import Agreement, Arrival, Ledger, Phase
from relay.check.publisher import planned
from relay.check.verdict import (
    Verdict,
    deliveries_of,
    delivery_failures,
    exceptions_of,
    incident_failures,
    notice_remarks,
    order_remarks,
    rate_remarks,
)

_AT_ONCE: Final = 20


class SubscriptionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to check. `kind` is that of the events; `None`, when listening only: any."""

    address: Address
    duration: float
    kind: int | None
    subscriptions: int
    connections: int
    publishers: int
    rate: float
    """Events a second, all publishers together; 0: only listen."""
    strict_order: bool
    tempo: Tempo


async def check_subscription(plan: SubscriptionPlan, display: Display) -> Verdict:
    """Run the check and return its verdict. Raises `CheckError` where it cannot be made."""
    course = _Listening(plan).run if plan.rate == 0 else _Publishing(plan).run
    return await run_check(plan.address, plan.tempo, display, course)


class _Publishing:
    """The course with events of our own."""

    def __init__(self, plan: SubscriptionPlan) -> None:
        self._plan = plan
        self._ledger = Ledger(plan.publishers)

    async def run(self, ground: Ground) -> Verdict:
        plan, ledger = self._plan, self._ledger
        author = Author(plan.kind or 0)
        audience = Audience(
            ground.dialer, ledger, ledger.received, ground.incidents, ground.nursery
        )
        with ground.interrupt.soon():
            await audience.open(author.filters(), spread(plan), _AT_ONCE)
        start = time.perf_counter()
        ground.display.describe = lambda: described(ledger, start)
        publishers = await publish(
            ground, ledger, author, audience, plan.publishers, plan.rate, plan.duration
        )
        await settle(ground, ledger, plan.tempo.settle)
        seconds = time.perf_counter() - start
        verdict = conclude(ground, ledger, audience, plan, seconds)
        await leave(ground, audience, publishers, [Leave.CLOSE], _AT_ONCE)
        return verdict


class _Listening:
    """The course with events of others."""

    def __init__(self, plan: SubscriptionPlan) -> None:
        self._plan = plan
        self._ledger = Ledger()

    async def run(self, ground: Ground) -> Verdict:
        plan, ledger = self._plan, self._ledger
        agreement = Agreement(ledger)

        def received(subscription: int, event_id: str, now: float) -> Arrival:
            seen = ledger.sent_count
            arrival = agreement.received(subscription, event_id, now)
            if ledger.sent_count > seen:
                ground.incidents.tell(f"event {seen} {event_id[:16]} seen")
            return arrival

        audience = Audience(ground.dialer, ledger, received, ground.incidents, ground.nursery)
        # nothing stored: its order is another one
        wanted: dict[str, object] = {"limit": 0}
        if plan.kind is not None:
            wanted["kinds"] = [plan.kind]
        with ground.interrupt.soon():
            await audience.open(msgspec.json.encode(wanted), spread(plan), _AT_ONCE)
            await trio.sleep(GRACE)
        start = time.perf_counter()
        ground.display.describe = lambda: described(ledger, start, published=False)
        agreement.phase = Phase.COMPARING
        with ground.interrupt.soon() as listening:
            audience.gone = listening.cancel
            if not audience.is_gone:
                await trio.sleep(plan.duration)
        agreement.phase = Phase.SETTLING
        await settle(ground, ledger, plan.tempo.settle)
        seconds = time.perf_counter() - start
        verdict = conclude(ground, ledger, audience, plan, seconds)
        await leave(ground, audience, [], [Leave.CLOSE], _AT_ONCE)
        return verdict


def spread(plan: SubscriptionPlan) -> list[int]:
    """Return how many subscriptions each connection has."""
    connections = min(plan.connections, plan.subscriptions)
    each, more = divmod(plan.subscriptions, connections)
    return [each + (number < more) for number in range(connections)]


def conclude(
    ground: Ground, ledger: Ledger, audience: Audience, plan: SubscriptionPlan, seconds: float
) -> Verdict:
    """Return what was found."""
    incidents = ground.incidents
    for subscription in range(ledger.subscriptions):
        if not ledger.has_ended(subscription):
            for stream, number in ledger.missing(subscription):
                of = f" of publisher {stream}" if plan.publishers > 1 else ""
                incidents.tell(f"subscription {subscription}: event {number}{of} lost")
    found = deliveries_of(ledger, audience.connections, published=plan.rate > 0)
    failures = [*delivery_failures(ledger, found, strict_order=plan.strict_order)]
    failures += incident_failures(incidents)
    if plan.rate and not found.sent and not failures:
        failures.append("no event was sent")
    wanted = planned(plan.rate, plan.duration, plan.publishers)
    return Verdict(
        check="relay check subscription",
        url=plan.address.url,
        passed=not failures,
        was_interrupted=ground.interrupt.was_asked,
        seconds=seconds,
        failures=failures,
        remarks=[
            *rate_remarks(found, wanted),
            *order_remarks(found, strict_order=plan.strict_order),
            *notice_remarks(incidents),
        ],
        deliveries=found,
        exceptions=exceptions_of(ledger),
    )
