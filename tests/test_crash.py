"""What was answered with OK is there after kill -9 (promise P2, failure F8).

Each round publishes from several connections, ends the relay with SIGKILL at a random moment while
many events are in flight, looks at the file that this left, starts the relay again on it, and reads
back by id what had been answered with `OK true`. Half of the rounds kill the whole process tree;
the others the session process alone, whose companions must end by themselves, while the next relay
is being started already. Rounds build on one another, so later ones also recover what an earlier
crash left behind; after some of them the store begins anew, so that a round stays short.
`TEST_CRASH_ROUNDS` asks for more of them.

A companion that is killed alone takes nothing else with it: the same relay answers for every event,
stores what it has accepted, and delivers it once.

A request to vanish that was interrupted is gone on with, though nobody asks again.
"""

import os
import random
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import pytest
import trio
from trio_websocket import ConnectionClosed, HandshakeError

from relay.protocol.event import Event, record
from relay.protocol.filters import Filter
from relay.store.sqlite.reader import SQLiteReader
from relay.store.sqlite.writer import SQLiteWriter
from tests.corpus import START, Author, event_message
from tests.faults.store_files import check_copy_whole, check_whole
from tests.faults.watching import VERIFIER, WRITER, companions, is_alive, log, until
from tests.served import Client, ServedRelay, client, process_tree, served_relay

ROUNDS: Final = 2
SLOW_ROUNDS: Final = int(os.environ.get("TEST_CRASH_ROUNDS", "20"))
ROUNDS_OF_A_STORE: Final = 20
CONNECTIONS: Final = 4
IN_FLIGHT: Final = 30
IDS_PER_REQUEST: Final = 500
EARLIER_IDS: Final = 1_000
"""So many of the events of earlier rounds are read back in each round, and all at the end."""
VANISHING: Final = 3_000
"""Events of somebody who asks to vanish: enough for many transactions."""


class Publishing:
    """Connections that publish until the relay is gone, and the events it has answered for."""

    def __init__(self, relay: ServedRelay, events: list[list[Event]], enough: int) -> None:
        self._relay = relay
        self._events = events
        self._enough = enough
        self._killed = False
        self.accepted: dict[str, Event] = {}
        self.reached = trio.Event()

    async def run(self) -> None:
        """Publish everything, or as much as the relay lives to see."""
        async with trio.open_nursery() as nursery:
            for events in self._events:
                nursery.start_soon(self._connection, events)

    def kill(self, kill: Callable[[], None]) -> None:
        """Kill the relay, and from then on only read what it has still answered.

        Who sends to a relay that is gone is told so, and never sees its last words, which are what
        this test is about.
        """
        self._killed = True
        kill()

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
            while waiting and pending < IN_FLIGHT and not self._killed:
                event = waiting.pop()
                await publisher.send(event_message(event))
                pending += 1
            _, identifier, accepted, reason = await publisher.expect("OK")
            assert accepted, reason
            pending -= 1
            self.accepted[identifier] = by_id[identifier]
            if len(self.accepted) >= self._enough:
                self.reached.set()


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


def _kill_session_alone(relay: ServedRelay, orphans: list[int]) -> None:
    """Kill the session process; add its companions, which are left to themselves, to `orphans`."""
    pid = relay.pid
    orphans += process_tree(pid)[1:]
    os.kill(pid, signal.SIGKILL)
    assert relay._process is not None
    relay._process.wait()
    relay._process = None  # not by `kill`, which would end the orphans


async def _ended(orphans: list[int]) -> None:
    try:
        await until(lambda: not any(map(is_alive, orphans)))
    finally:
        for orphan in filter(is_alive, orphans):
            os.kill(orphan, signal.SIGKILL)


async def _crash_and_recover(directory: Path, rounds: range) -> None:
    source = random.Random(f"crash {rounds.start}")
    accepted: dict[str, Event] = {}
    with served_relay(directory) as relay:
        for number in rounds:
            enough = source.randint(1, 900)
            publishing = Publishing(relay, _events(number, 400), enough)
            orphans: list[int] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publishing.run)
                await publishing.reached.wait()
                await trio.sleep(source.random() * 0.02)
                if number % 2:
                    publishing.kill(partial(_kill_session_alone, relay, orphans))
                else:
                    publishing.kill(relay.kill)
                    # of all processes, so that nobody changes the file any more
                    check_copy_whole(Path(relay.store), directory / "copy")
            assert len(publishing.accepted) >= enough
            relay.start()
            await _ended(orphans)
            earlier = source.sample(sorted(accepted), min(len(accepted), EARLIER_IDS))
            await _read_back(relay, publishing.accepted | {id_: accepted[id_] for id_ in earlier})
            accepted.update(publishing.accepted)
        await _read_back(relay, accepted)
        # what comes after a crash is taken as ever
        async with client(relay.url) as publisher:
            await publisher.accept(Author("after").sign(1, "still standing"))
    assert check_whole(Path(relay.store)) > len(accepted)


async def test_what_was_answered_with_ok_survives_kill_9(tmp_path: Path) -> None:
    await _crash_and_recover(tmp_path, range(ROUNDS))


@pytest.mark.slow
@pytest.mark.timeout(120 + 30 * SLOW_ROUNDS)
async def test_what_was_answered_with_ok_survives_kill_9_many_times(tmp_path: Path) -> None:
    for first in range(0, SLOW_ROUNDS, ROUNDS_OF_A_STORE):
        directory = tmp_path / f"from {first}"
        directory.mkdir()
        rounds = range(first, min(first + ROUNDS_OF_A_STORE, SLOW_ROUNDS))
        await _crash_and_recover(directory, rounds)


class _Answers:
    """Publishes everything and keeps the answers, whatever they are."""

    def __init__(self, events: list[Event]) -> None:
        self._waiting = list(reversed(events))
        self.accepted: set[str] = set()
        self.failed: set[str] = set()

    @property
    def count(self) -> int:
        return len(self.accepted) + len(self.failed)

    async def run(self, url: str) -> None:
        async with client(url) as publisher:
            pending = 0
            while self._waiting or pending:
                while self._waiting and pending < IN_FLIGHT:
                    await publisher.send(event_message(self._waiting.pop()))
                    pending += 1
                _, identifier, accepted, reason = await publisher.expect("OK")
                pending -= 1
                assert accepted or reason.startswith("error: "), reason
                (self.accepted if accepted else self.failed).add(identifier)


@pytest.mark.parametrize(
    "module",
    [WRITER, pytest.param(VERIFIER, marks=pytest.mark.slow)],
    ids=["writer", "verifier"],
)
async def test_a_companion_killed_during_ingest_loses_nothing_and_the_relay_serves_on(
    tmp_path: Path, module: bytes
) -> None:
    source = random.Random("companion")
    events = [event for batch in _events(0, 150) for event in batch]
    published = _Answers(events)
    with served_relay(tmp_path, config="verifiers = 1\n") as relay:
        await until(lambda: companions(relay, module))
        # time to get ready: a verifier that never was is not started again
        await trio.sleep(1)
        async with client(relay.url) as subscriber, client(relay.url) as publisher:
            live = await subscriber.subscribe({"kinds": [1]})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(published.run, relay.url)
                for killed in range(2):
                    enough = source.randint(1, 150)
                    begun = published.count
                    await until(lambda: published.count >= begun + enough)  # noqa: B023
                    await until(lambda: companions(relay, module))
                    (pid,) = companions(relay, module)
                    os.kill(pid, signal.SIGKILL)
                    await until(lambda: len(log(relay)) > killed)  # noqa: B023
            if module == VERIFIER:
                assert not published.failed, "what a verifier had was not checked here"
            # what was refused because of the kill is taken the second time, once at most
            by_id = {event.id: event for event in events}
            await until(lambda: companions(relay, WRITER))
            for identifier in published.failed:
                while not (await publisher.publish(by_id[identifier]))[0]:  # noqa: ASYNC110
                    await trio.sleep(0.1)  # until there is a writer again
            received = [(await subscriber.event(live)).id for _ in events]
            assert sorted(received) == sorted(by_id)
            await subscriber.nothing(0.2)
        await _read_back(relay, by_id)
        assert {line["event"] for line in log(relay)} <= _expected_lines(module)
    assert check_whole(Path(relay.store)) == len(events)


def _expected_lines(module: bytes) -> set[str]:
    if module == VERIFIER:
        return {"verifier lost", "connection closed"}
    return {"writer lost", "commit failed", "connection closed"}


def _fill(path: Path, author: Author, other: Author) -> None:
    """Store many events by one author, and a few by another."""
    writer = SQLiteWriter(path)
    writer._connection.pragma("synchronous", "off")
    unsigned = author.sign(1, "", [("t", "gone")])
    for first in range(0, VANISHING, 500):
        batch = [
            msgspec.structs.replace(unsigned, id=f"{number:064x}", created_at=START + number)
            for number in range(first, first + 500)
        ]
        writer.commit([record(event) for event in batch], START)
    writer.commit([record(other.sign(1, str(number))) for number in range(10)], START)
    writer.close()


async def test_a_request_to_vanish_that_kill_9_interrupts_is_carried_out(tmp_path: Path) -> None:
    author, other = Author("vanishing"), Author("staying")
    request = author.sign(62, "", [("relay", "ALL_RELAYS")], START + VANISHING)
    path = tmp_path / "events.sqlite"
    _fill(path, author, other)
    with served_relay(tmp_path, store=str(path)) as relay:
        reader = SQLiteReader(path)
        mine = Filter(authors=frozenset([author.pubkey]))

        def left() -> int:
            counting = reader.count([mine], START)
            assert counting.step(lambda: False)
            return counting.total

        async with client(relay.url) as publisher:
            await publisher.send(event_message(request))
            await until(lambda: left() < VANISHING)
            assert not publisher.pending("OK", request.id)
        relay.kill()
        reader.close()
        check_copy_whole(path, tmp_path / "copy")
        relay.start()
        async with client(relay.url) as publisher:
            # nobody asks again, and nothing comes back meanwhile
            back = author.sign(1, "back", [], START)
            assert not (await publisher.publish(back))[0]
            while await publisher.count({"authors": [author.pubkey]}) > 1:  # noqa: ASYNC110
                await trio.sleep(0.05)
            assert await publisher.request({"authors": [author.pubkey]}) == [request]
            assert (await publisher.publish(request))[0]
            assert await publisher.count({}) == 11
    assert check_whole(path) == 11
