"""Many cheap connections: whoever is in stays in and is served, whoever is too many is told so."""

from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio

from relay.session.core import Timing
from relay.session.server import Admission
from tests.attacks.peer import Ended, Peer, caller, peer, together
from tests.attacks.witness import HONEST, unharmed, unharmed_process
from tests.served import served_relay
from tests.session import wire
from tests.session.serving import serve

LIMIT: Final = 50
MORE: Final = 350


async def test_a_flood_of_idle_connections_ends_at_the_limit(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, admission=Admission(max_connections=LIMIT))
    taken: list[trio.Event] = []
    refused = 0
    over = trio.Event()

    async def attack() -> None:
        nonlocal refused
        async with caller(serving.port) as one:
            await one.say(wire.UPGRADE)
            try:
                head = await one.head()
            except Ended:
                # so many at once that they are reset
                refused += 1
            else:
                if head.startswith(b"HTTP/1.1 101 "):
                    taken.append(trio.Event())
                    taken[-1].set()
                    await over.wait()
                else:
                    assert head.startswith(b"HTTP/1.1 503 ")
                    refused += 1

    async with unharmed(serving):
        async with trio.open_nursery() as attackers:
            for _ in range(LIMIT - HONEST + MORE):
                attackers.start_soon(attack)
            with trio.fail_after(20):
                while refused < MORE:  # noqa: ASYNC110 - the attackers have no turn to give
                    await trio.sleep(0.01)
            assert len(taken) == LIMIT - HONEST
            # nothing was refused that had been let in, and all of it has its room again
            over.set()
        await serving.until(open_connections=HONEST)
        async with peer(serving.port) as newcomer:
            await newcomer.alive()


async def test_connections_that_never_say_a_word_make_room_in_time(nursery: trio.Nursery) -> None:
    timing = Timing(handshake_timeout=0.5)
    admission = Admission(max_connections=LIMIT)
    serving = await serve(nursery, admission=admission, timing=timing)

    async def silent() -> None:
        async with caller(serving.port) as one:
            await one.rest()

    async with unharmed(serving):
        await together([silent] * 300, at_once=300)
        async with peer(serving.port) as newcomer:
            await newcomer.alive()


async def test_connections_come_and_go_by_the_thousand(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)

    async def attack(number: int) -> None:
        async with caller(serving.port) as one:
            if number % 3 == 0:
                await one.say(wire.UPGRADE)
            if number % 2:
                one.reset()
            else:
                one.leave()

    async with unharmed(serving):
        await together([partial(attack, number) for number in range(500)], at_once=100)


async def test_a_served_relay_that_is_full_serves_who_is_there(tmp_path: Path) -> None:
    config = "[connections]\nmax_connections = 40\n"
    with served_relay(tmp_path, config=config) as relay:

        async def attack() -> None:
            async with caller(relay.port) as one:
                await one.say(wire.UPGRADE)
                with trio.move_on_after(1):
                    await one.rest()

        async with unharmed_process(relay):
            await together([attack] * 200, at_once=200)
        async with peer(relay.port) as newcomer:
            await newcomer.alive()


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_thousands_of_idle_connections_hold_nobody_up(
    nursery: trio.Nursery, scale: float
) -> None:
    serving = await serve(nursery)
    count = max(100, int(3_000 * scale))
    everybody = trio.Event()
    arrived = 0

    async def attack() -> None:
        nonlocal arrived
        async with peer(serving.port) as one:
            arrived += 1
            if arrived == count:
                everybody.set()
            await everybody.wait()
            await one.alive()

    async with unharmed(serving):
        await together([attack] * count, at_once=count)


async def test_one_address_cannot_fill_the_relay_with_connections_that_are_refused(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused for its address is no connection: it takes no place of anybody else's."""
    # every loopback address is the same machine, but not the same address
    monkeypatch.setattr("relay.session.server.is_loopback", lambda _address: False)
    admission = Admission(max_connections=LIMIT, max_connections_per_address=10)
    serving = await serve(nursery, admission=admission)

    async def attack() -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", serving.port, local_address="127.0.0.2")
        async with stream:
            # no head ever comes: such a connection is kept for as long as a handshake may take
            with trio.move_on_after(2):
                await Peer(stream).rest()

    async with unharmed(serving), trio.open_nursery() as attackers:
        for _ in range(4 * LIMIT):
            attackers.start_soon(attack)
        await trio.sleep(0.5)
        async with peer(serving.port) as newcomer:
            await newcomer.alive()
