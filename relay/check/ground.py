"""What every check stands on: connections that are kept alive, a status line, Ctrl+C.

check
├─ interrupt      signals
├─ display        the status line
├─ keepalive      pings on all connections
├─ one reader for each connection
└─ the course of the check, and at its end the end of all of these
"""

from collections.abc import Awaitable, Callable

import msgspec
import trio

from relay.check.address import Address
from relay.check.dial import Dialer
from relay.check.display import Display
from relay.check.errors import CheckError
from relay.check.incidents import Incidents
from relay.check.interrupt import Interrupt
from relay.check.keepalive import Keepalive
from relay.check.verdict import Verdict


class Tempo(msgspec.Struct, frozen=True, kw_only=True):
    """How long things may take, in seconds."""

    ping_interval: float = 20.0
    """Silence before a connection is pinged."""
    ping_timeout: float = 20.0
    """Silence after that before it is dead."""
    settle: float = 10.0
    """What is under way at the end has so long to arrive; so have resources to be given back."""


class Ground(msgspec.Struct, frozen=True):
    """What a check is given to work with."""

    nursery: trio.Nursery
    dialer: Dialer
    incidents: Incidents
    interrupt: Interrupt
    display: Display


async def run_check(
    address: Address,
    tempo: Tempo,
    display: Display,
    course: Callable[[Ground], Awaitable[Verdict]],
) -> Verdict:
    """Run the course of a check on its ground. Raises `CheckError` where it cannot be made."""
    verdict: Verdict | None = None
    problem: CheckError | None = None
    async with trio.open_nursery() as nursery:
        interrupt = Interrupt()
        keepalive = Keepalive(tempo.ping_interval, tempo.ping_timeout)
        await nursery.start(interrupt.run)
        nursery.start_soon(keepalive.run)
        nursery.start_soon(display.run)
        ground = Ground(
            nursery,
            Dialer(address, nursery, keepalive),
            Incidents(display.tell),
            interrupt,
            display,
        )
        try:
            verdict = await course(ground)
        except CheckError as error:
            # kept out of the nursery, which would wrap it
            problem = CheckError(f"{address.url}: {error}")
        nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem
    assert verdict is not None  # noqa: S101 - a course ends with one or the other
    return verdict
