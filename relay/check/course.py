"""The steps that the courses of several checks share."""

import time
from collections.abc import Sequence
from typing import Final

import trio

from relay.check.audience import Audience
from relay.check.author import Author
from relay.check.connection import Leave
from relay.check.ground import Ground
from relay.check.ledger import Ledger
from relay.check.publisher import Publisher

GRACE: Final = 0.5
"""Seconds in which what is already under way on another connection arrives."""
_LOOK_AGAIN: Final = 0.1
_LEAVING_DEADLINE: Final = 30.0
_PATIENCE: Final = 5.0
"""Seconds that the relay may take to let one connection go."""


async def publish(
    ground: Ground,
    ledger: Ledger,
    author: Author,
    audience: Audience,
    publishers: int,
    rate: float,
    duration: float,
) -> list[Publisher]:
    """Publish until the time is over, all publishers have ended, or nobody listens any more.

    Return the publishers, which are still connected.
    """
    opened: list[Publisher] = []
    with ground.interrupt.soon() as publishing:
        audience.gone = publishing.cancel
        if audience.is_gone:
            return opened
        for stream in range(publishers):
            connection = await ground.dialer.dial()
            publisher = Publisher(connection, stream, author, ledger, ground.incidents)
            ground.nursery.start_soon(publisher.run)
            opened.append(publisher)
        async with trio.open_nursery() as nursery:
            for publisher in opened:
                nursery.start_soon(publisher.publish, rate / publishers, duration)
    return opened


async def settle(ground: Ground, ledger: Ledger, patience: float) -> None:
    """Wait until everything has arrived, or for `patience` seconds."""
    ground.display.describe = lambda: (
        f"waiting for {ledger.unanswered_count:,} answers"
        f" and {sum(ledger.lost().values()):,} deliveries"
    )
    with ground.interrupt.now(), trio.move_on_after(patience):
        # the ledger is a plain book: nobody is told when it is complete
        while not ledger.is_settled():  # noqa: ASYNC110
            await trio.sleep(_LOOK_AGAIN)
        if ledger.sent_count:
            # a duplicate would come after the original
            await trio.sleep(min(GRACE, patience))


def described(ledger: Ledger, start: float, *, published: bool = True) -> str:
    """Return how it is going, in one line; the events were `published`, or only seen."""
    words = [f"seen {ledger.sent_count:,}"]
    if published:
        words = [f"sent {ledger.sent_count:,}", f"accepted {ledger.accepted_count:,}"]
    words.append(f"received {ledger.received_count:,}")
    words.append(f"p50 {ledger.latencies.percentile(50):.1f} ms")
    # what is as it should be takes no room
    exceptions = {
        "refused": ledger.refused.total(),
        "duplicated": ledger.duplicated.total(),
        "reordered": ledger.reordered.total(),
        "unexpected": ledger.unexpected.total(),
        "subscriptions ended": ledger.subscriptions - ledger.live_subscriptions,
    }
    words += [f"{number:,} {name}" for name, number in exceptions.items() if number]
    return f"{time.perf_counter() - start:.0f} s: {', '.join(words)}"


async def leave(
    ground: Ground,
    audience: Audience,
    publishers: Sequence[Publisher],
    ways: Sequence[Leave],
    at_once: int,
) -> None:
    """Leave with all connections; a second Ctrl+C and a deadline cut that short."""
    ground.display.describe = lambda: f"leaving, {audience.connections:,} are still connected"
    with ground.interrupt.now(), trio.move_on_after(_LEAVING_DEADLINE):
        await audience.leave(ways, at_once)
        for publisher in publishers:
            await publisher.connection.leave(Leave.CLOSE, _PATIENCE)
