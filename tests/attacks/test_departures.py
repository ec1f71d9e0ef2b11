"""Peers that leave at every moment of a whole conversation, with a FIN and with a reset."""

import json
from functools import partial
from typing import Final

import pytest
import trio

from tests.attacks.peer import Ended, Peer, caller, deflating, peer, together
from tests.attacks.witness import unharmed
from tests.corpus import Author, event_message
from tests.session import wire
from tests.session.serving import NOW, Serving, serve

AUTHOR: Final = Author("departure")
WAYS: Final = ("fin", "reset", "half closed")
STEP: Final = 11
"""Every so manieth position, by default; a prime, so that all kinds of places are met."""


def conversation() -> tuple[bytes, list[int]]:
    """Return all that a client says in a whole conversation, and where its parts begin."""
    note = event_message(AUTHOR.sign(1, "a note " + "x" * 100, [("t", "departure")], NOW))
    middle = len(note) // 2
    parts = [
        wire.UPGRADE[:-2] + deflating() + b"\r\n\r\n",
        wire.text(json.dumps(["REQ", "live", {"kinds": [1]}, {"authors": [AUTHOR.pubkey]}])),
        wire.frame(wire.FIN | wire.PING, b"ping"),
        wire.text(note),
        wire.deflated_text(json.dumps(["REQ", "again", {}]).encode()),
        wire.frame(wire.TEXT, note[:middle]),
        wire.frame(wire.FIN | wire.PONG),
        wire.frame(wire.FIN | wire.CONTINUATION, note[middle:]),
        wire.text('["COUNT","count",{}]'),
        wire.text('["REQ","live",{"kinds":[7]}]'),
        wire.text('["CLOSE","again"]'),
        wire.text('["CLOSE","live"]'),
        wire.text("nonsense"),
        wire.close(1000),
    ]
    starts = [sum(map(len, parts[:number])) for number in range(len(parts) + 1)]
    return b"".join(parts), starts


async def leave(one: Peer, way: str) -> None:
    if way == "reset":
        one.reset()
    elif way == "fin":
        one.leave()
    else:
        # nothing more is said, but all is heard
        await one.stream.send_eof()
        await one.rest()


async def depart_everywhere(serving: Serving, positions: list[int]) -> None:
    said, _ = conversation()

    async def attack(position: int, way: str, patient: bool) -> None:
        async with caller(serving.port) as one:
            await one.say(said[:position])
            if patient:
                # the relay is in the middle of it, instead of at the beginning
                await trio.sleep(0.005)
            await leave(one, way)

    async with unharmed(serving):
        await together(
            [
                partial(attack, position, way, patient)
                for position in positions
                for way in WAYS
                for patient in (False, True)
            ]
        )


async def test_a_peer_may_leave_anywhere_and_nothing_remains(nursery: trio.Nursery) -> None:
    said, starts = conversation()
    around = {start + offset for start in starts for offset in (-1, 0, 1, 2, 6)}
    positions = {at for at in around if 0 <= at <= len(said)} | set(range(0, len(said), STEP * 17))
    await depart_everywhere(await serve(nursery), sorted(positions))


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_peer_may_leave_at_every_byte_and_nothing_remains(
    nursery: trio.Nursery, scale: float
) -> None:
    said, _ = conversation()
    step = max(1, int(STEP - 10 * scale))
    await depart_everywhere(await serve(nursery), list(range(0, len(said) + 1, step)))


async def test_what_was_said_before_the_departure_was_said(nursery: trio.Nursery) -> None:
    """An event that was whole is stored, though nobody waits for its OK; a half one is not."""
    serving = await serve(nursery)
    events = [AUTHOR.sign(1, f"last words {number}", [], NOW) for number in range(60)]

    async def attack(number: int) -> None:
        async with peer(serving.port) as one:
            frame = wire.text(event_message(events[number]))
            await one.say(frame if number % 2 else frame[:-1])
            await one.stream.send_eof()
            with pytest.raises(Ended):
                await one.until_ended()

    async with unharmed(serving), peer(serving.port) as listener:
        await together([partial(attack, number) for number in range(60)])
        await listener.send(["REQ", "x", {"authors": [AUTHOR.pubkey]}])
        stored = set()
        while (message := await listener.message())[0] != "EOSE":
            if message[0] == "EVENT":
                stored.add(message[2]["id"])
        assert stored == {event.id for event in events[1::2]}


async def test_a_peer_that_leaves_while_it_is_sent_much_is_no_weight(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)

    async def attack(number: int) -> None:
        async with peer(serving.port, *([deflating()] if number % 2 else [])) as one:
            await one.send(["REQ", "all", {"authors": [AUTHOR.pubkey]}])
            await one.message()
            await leave(one, WAYS[number % 2])

    async with unharmed(serving):
        async with peer(serving.port) as one:
            for number in range(100):
                event = AUTHOR.sign(1, f"{number} " + "x" * 10_000, [], NOW)
                await one.publish(event)
                await one.until("OK", event.id)
        await together([partial(attack, number) for number in range(60)])


async def test_a_peer_that_says_nothing_more_is_let_go_of(nursery: trio.Nursery) -> None:
    """Half closed, it can still be sent to; that is no connection any more."""
    serving = await serve(nursery)
    async with unharmed(serving), peer(serving.port) as one:
        await one.send(["REQ", "x", {}])
        await one.until("EOSE", "x")
        await one.stream.send_eof()
        assert b"OK" not in await one.rest()
        await serving.until(open_connections=2, subscriptions=1)
