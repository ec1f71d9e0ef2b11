"""What was answered with OK is there after kill -9 (promise P2, failure F8).

Each round publishes from several connections, ends the relay's whole process tree with SIGKILL at
a random moment while many events are in flight, starts it again on the same store, and reads back
by id every event whose `OK true` had arrived. Rounds build on one another, so later ones also
recover what an earlier crash left behind. `TEST_CRASH_ROUNDS` asks for more of them.
"""

import os
import random
from pathlib import Path
from typing import Final

import pytest
import trio
from trio_websocket import ConnectionClosed, HandshakeError

from relay.protocol.event import Event
from tests.corpus import START, Author
from tests.served import Client, ServedRelay, client, served_relay

ROUNDS: Final = 3
SLOW_ROUNDS: Final = int(os.environ.get("TEST_CRASH_ROUNDS", "20"))
CONNECTIONS: Final = 4
IN_FLIGHT: Final = 30
IDS_PER_REQUEST: Final = 200


class Publishing:
    """Connections that publish until the relay is gone, and the events it has answered for."""

    def __init__(self, relay: ServedRelay, events: list[list[Event]], enough: int) -> None:
        self._relay = relay
        self._events = events
        self._enough = enough
        self.accepted: dict[str, Event] = {}
        self.reached = trio.Event()

    async def run(self) -> None:
        """Publish everything, or as much as the relay lives to see."""
        async with trio.open_nursery() as nursery:
            for events in self._events:
                nursery.start_soon(self._connection, events)

    async def _connection(self, events: list[Event]) -> None:
        # the relay's end is what this test is about: refused, reset or closed are all the same
        try:
            async with client(self._relay.url) as publisher:
                await self._publish(publisher, events)
        except* (ConnectionClosed, HandshakeError, OSError):
            pass
        self.reached.set()

    async def _publish(self, publisher: Client, events: list[Event]) -> None:
        by_id = {event.id: event for event in events}
        waiting = list(reversed(events))
        pending = 0
        while waiting or pending:
            while waiting and pending < IN_FLIGHT:
                event = waiting.pop()
                await publisher.send(["EVENT", _object(event)])
                pending += 1
            _, identifier, accepted, reason = await publisher.expect("OK")
            assert accepted, reason
            pending -= 1
            self.accepted[identifier] = by_id[identifier]
            if len(self.accepted) >= self._enough:
                self.reached.set()


def _object(event: Event) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def _events(round_number: int, count: int) -> list[list[Event]]:
    """Return fresh notes for each connection, by an author of its own."""
    batches = []
    for connection in range(CONNECTIONS):
        author = Author(f"crash {round_number} {connection}")
        batch = []
        for number in range(count):
            tags = [("t", f"round{round_number}"), ("p", author.pubkey)]
            batch.append(author.sign(1, f"{round_number} {number}", tags, START + number))
        batches.append(batch)
    return batches


async def _read_back(relay: ServedRelay, events: dict[str, Event]) -> None:
    ids = sorted(events)
    async with client(relay.url) as reader:
        for first in range(0, len(ids), IDS_PER_REQUEST):
            wanted = ids[first : first + IDS_PER_REQUEST]
            found = await reader.request({"ids": wanted})
            lost = set(wanted).difference(event.id for event in found)
            assert not lost, f"{len(lost)} of {len(ids)} accepted events are lost"
            assert all(events[event.id] == event for event in found)


async def _crash_and_recover(directory: Path, rounds: int) -> None:
    source = random.Random("crash")
    accepted: dict[str, Event] = {}
    with served_relay(directory) as relay:
        for number in range(rounds):
            enough = source.randint(1, 900)
            publishing = Publishing(relay, _events(number, 400), enough)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publishing.run)
                await publishing.reached.wait()
                await trio.sleep(source.random() * 0.02)
                relay.kill()
            assert len(publishing.accepted) >= enough
            accepted.update(publishing.accepted)
            relay.start()
            await _read_back(relay, accepted)
        # what comes after a crash is taken as ever
        async with client(relay.url) as publisher:
            await publisher.accept(Author("after").sign(1, "still standing"))


async def test_what_was_answered_with_ok_survives_kill_9(tmp_path: Path) -> None:
    await _crash_and_recover(tmp_path, ROUNDS)


@pytest.mark.slow
@pytest.mark.timeout(120 + 30 * SLOW_ROUNDS)
async def test_what_was_answered_with_ok_survives_kill_9_many_times(tmp_path: Path) -> None:
    await _crash_and_recover(tmp_path, SLOW_ROUNDS)
