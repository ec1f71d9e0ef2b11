"""The failures seen elsewhere that must be impossible here, over real sockets.

F5 is in tests/check, F8 in tests/test_crash.py, tests/test_stop.py and test_drain.py, F9 in
test_back_pressure.py, F10 in tests/test_metrics_served.py, F11 also in tests/test_soak.py.
"""

import gc
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from relay.protocol.filters import Filter
from relay.protocol.hyperloglog import HyperLogLog
from relay.protocol.limits import Limits
from relay.session.core import Capacity, Timing
from relay.store.api import Budget, Counting, Guard, Listing, Lookup, Page, Query, Tail
from relay.store.memory import MemoryStore
from tests.corpus import Author
from tests.served import Client, client
from tests.session import wire
from tests.session.serving import AUTHOR, NOW, Serving, events_of, eventually, notes, serve, tasks


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def receive_ids(one: Client, name: str, count: int) -> list[str]:
    return [(await one.event(name)).id for _ in range(count)]


async def test_f1_every_event_reaches_every_matching_subscription_exactly_once(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    per_author, authors = 40, [Author(f"f1 {number}") for number in range(3)]
    # events that share a batch and events that come alone go different ways
    alone = [authors[0].sign(1, f"alone {number}", [], NOW) for number in range(20)]
    async with trio.open_nursery() as clients:
        received: dict[int, list[str]] = {}
        ready = trio.Event()
        finished = trio.Event()

        async def subscribe(number: int) -> None:
            async with client(serving.url) as one:
                mine = [author.pubkey for author in authors[: 1 + number % 3]]
                # two filters that match the same events: still each of them once
                live = await one.subscribe({"authors": mine}, {"kinds": [1], "authors": mine})
                received[number] = []
                if len(received) == 12:
                    ready.set()
                wanted = per_author * len(mine) + len(alone)
                received[number] = await receive_ids(one, live, wanted)
                await finished.wait()
                await one.nothing(0.1)

        for number in range(12):
            clients.start_soon(subscribe, number)
        await ready.wait()
        sent: list[str] = []
        async with trio.open_nursery() as publishers:

            async def publish(author: Author) -> None:
                async with client(serving.url) as one:
                    for event in notes(per_author, author=author):
                        sent.append(event.id)
                        await one.accept(event)

            for author in authors:
                publishers.start_soon(publish, author)
        async with client(serving.url) as one:
            for event in alone:
                sent.append(event.id)
                await one.accept(event)
        finished.set()
    orders = set()
    for number, ids in received.items():
        assert len(ids) == len(set(ids)) == per_author * (1 + number % 3) + len(alone)
        assert set(ids) <= set(sent)
        if number % 3 == 2:
            orders.add(tuple(ids))
    assert len(orders) == 1, "all subscriptions see the same log in the same order"


async def test_f2_both_forms_of_req_are_served(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    note, reaction = notes(1)[0], notes(1, kind=7)[0]
    async with client(serving.url) as one:
        await one.accept(note, reaction)
        two = [{"kinds": [1]}, {"kinds": [7]}]
        for name, request in (
            ("separate", ["REQ", "separate", *two]),
            ("wrapped", ["REQ", "wrapped", two]),
        ):
            await one.send(request)
            assert set(await receive_ids(one, name, 2)) == {note.id, reaction.id}
            await one.expect("EOSE", name)


async def test_f3_a_subscription_stays_live_for_any_number_of_events(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    async with client(serving.url) as reader, client(serving.url) as writer:
        live = await reader.subscribe({"kinds": [1]})
        for event in notes(500):
            await writer.accept(event)
            assert (await reader.event(live)).id == event.id


async def test_f3_a_subscription_left_alone_for_a_week_still_delivers(
    mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    mock_clock.rate = 1.0
    minutes = 60.0
    timing = Timing(ping_interval=30 * minutes, pong_timeout=60 * minutes)
    serving = await serve(nursery, timing=timing)
    async with client(serving.url) as reader, client(serving.url) as writer:
        live = await reader.subscribe({"kinds": [1]})
        began = trio.current_time()
        for _ in range(7 * 24 * 2):
            # pings and pongs travel over real sockets, which takes real time
            mock_clock.jump(30 * minutes)
            await trio.testing.wait_all_tasks_blocked(0.003)
        assert trio.current_time() - began >= 7 * 24 * 60 * minutes
        event = notes(1)[0]
        await writer.accept(event)
        assert (await reader.event(live)).id == event.id


class SlowStore(MemoryStore):
    """A store that needs many steps for queries that ask for kind 9."""

    steps = 200

    def reader(self) -> "SlowReader":  # type: ignore[override]  # a reader all the same
        return SlowReader(self)


class SlowReader:
    def __init__(self, store: MemoryStore) -> None:
        self._reader = MemoryStore.reader(store)
        self.slow_pages = 0

    def head(self) -> int:
        return self._reader.head()

    def query(
        self, filters: Sequence[Filter], default_limit: int, now: int, guard: Guard | None = None
    ) -> Query:
        query = self._reader.query(filters, default_limit, now, guard)
        slow = any(one.kinds == frozenset([9]) for one in filters)
        return SlowQuery(query, self) if slow else query

    def count(
        self,
        filters: Sequence[Filter],
        now: int,
        guard: Guard | None = None,
        sketch: HyperLogLog | None = None,
    ) -> Counting:
        return self._reader.count(filters, now, guard, sketch)

    def list(self, filter_: Filter, now: int, guard: Guard | None = None) -> Listing:
        return self._reader.list(filter_, now, guard)

    def tail(self, after: int, max_events: int, max_bytes: int, now: int) -> Tail:
        return self._reader.tail(after, max_events, max_bytes, now)

    def holds_id(self, prefix: str, now: int) -> bool:
        return self._reader.holds_id(prefix, now)

    def close(self) -> None:
        self._reader.close()


class SlowQuery:
    def __init__(self, query: Query, reader: SlowReader) -> None:
        self._query = query
        self._reader = reader
        self.go_on = SlowStore.steps

    @property
    def position(self) -> int:
        return self._query.position

    @property
    def complete(self) -> bool | None:
        return self._query.complete

    @property
    def lookup(self) -> Lookup | None:
        return self._query.lookup

    def page(self, max_events: int, max_bytes: int, budget: Budget) -> Page:
        if self.go_on:
            self.go_on -= 1
            self._reader.slow_pages += 1
            return Page([], finished=False)
        return self._query.page(max_events, max_bytes, budget)


async def test_f4_a_slow_query_delays_only_itself_and_nothing_is_dropped(
    nursery: trio.Nursery,
) -> None:
    store = SlowStore()
    SlowStore.steps = 100_000_000
    reader = store.reader()
    serving = await serve(nursery, store=store, reader=reader)
    async with client(serving.url) as one:
        await one.send(["REQ", "slow", {"kinds": [9]}])
        # many more messages on the same connection than any queue holds
        events = notes(300)
        await one.accept(*events)
        for number in range(150):
            await one.subscribe({"ids": [events[number].id]}, name=f"fast {number}")
            assert (await one.event(f"fast {number}")).id == events[number].id
            await one.send(["CLOSE", f"fast {number}"])
        assert await one.count({}) == 300
        assert reader.slow_pages > 0
        await one.send(["CLOSE", "slow"])
        await serving.until(subscriptions=0)
        done = reader.slow_pages
        await one.count({})
        assert reader.slow_pages - done <= 1, "a closed query goes on"


@pytest.mark.parametrize("log_entries", [4096, 10], ids=["from memory", "from the store"])
async def test_f4_a_slow_reader_misses_nothing_and_costs_the_others_nothing(
    nursery: trio.Nursery, log_entries: int
) -> None:
    serving = await serve(nursery, capacity=Capacity(outbox_bytes=65_536), log_entries=log_entries)
    events = notes(400, size=20_000)
    async with client(serving.url) as writer, client(serving.url) as quick:
        slow = serving.dial()
        await slow.handshake()
        slow.send(["REQ", "slow", {"kinds": [1]}])
        live = await quick.subscribe({"kinds": [1]})
        await serving.until(subscriptions=2)
        for event in events:
            await writer.accept(event)
            assert (await quick.event(live)).id == event.id
        assert serving.core.counters.fell_behind >= 1, "the slow one was not slow enough"
        assert await read_ids(slow.socket.fileno(), "slow", len(events)) == [
            event.id for event in events
        ]
        # and it is live again
        (last,) = notes(1, kind=1, author=Author("afterwards"))
        await writer.accept(last)
        assert await read_ids(slow.socket.fileno(), "slow", 1) == [last.id]
        slow.close()


async def read_ids(descriptor: int, name: str, count: int) -> list[str]:
    """Read so many events of a subscription from a raw socket, and tell their ids."""
    marker = f'["EVENT","{name}",{{"id":"'.encode()
    data = b""
    with trio.fail_after(30):
        while data.count(marker) < count or not data.endswith(b"}]"):
            await trio.lowlevel.wait_readable(descriptor)
            chunk = os.read(descriptor, 1 << 20)
            assert chunk, "the connection ended"
            data += chunk
    return [piece[:64].decode() for piece in data.split(marker)[1:]]


async def test_f6_one_writer_sends_whole_frames_whoever_has_something_to_say(
    nursery: trio.Nursery,
) -> None:
    # answers, stored pages, live events of many subscriptions, counts and pongs, all at once
    serving = await serve(nursery, capacity=Capacity(outbox_bytes=65_536, page_events=7))
    names = [f"s{number}" for number in range(15)]
    stored, live = notes(300, size=500), notes(300, kind=7, size=500)
    alone = [AUTHOR.sign(7, f"alone {number} " + "x" * 500, [], NOW) for number in range(60)]
    async with (
        client(serving.url) as one,
        client(serving.url) as other,
        client(serving.url) as early,
    ):
        await other.accept(*stored)
        for name in names:
            # who comes second to a name is sent the frames that were made for the first
            await early.subscribe({"kinds": [7], "limit": 0}, name=name)
        await serving.until(open_connections=3)
        for connection in serving.server._connections:
            # the kernel takes little at once: nearly every frame is sent in pieces
            connection._stream._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        heard: dict[Client, list[list[Any]]] = {one: [], other: [], early: []}
        async with trio.open_nursery() as speakers:

            async def publish(by: Client) -> None:
                for event in live:
                    await by.send(["EVENT", msgspec.to_builtins(event)])

            async def publish_slowly(by: Client) -> None:
                # what comes alone is written straight through, where that is possible
                for event in alone:
                    await by.send(["EVENT", msgspec.to_builtins(event)])
                    await trio.sleep(0.02)

            async def ask() -> None:
                for name in names:
                    await one.send(["REQ", name, {"kinds": [1, 7], "limit": 1_000}])
                for number in range(counts):
                    await one.send(["COUNT", f"c{number}", {"kinds": [1]}])
                    await one.send("nonsense")
                    with trio.fail_after(20):
                        await one.connection.ping()

            async def listen(to: Client, wanted: int) -> None:
                # every message is a whole frame with whole JSON in it, or this would fail
                while len(heard[to]) < wanted:
                    heard[to].append(await to.receive())

            counts = 60
            expected = [event.id for event in [*stored, *live, *alone]]
            # each event comes from both: whichever is second is a duplicate
            for by in (one, other):
                speakers.start_soon(publish, by)
            speakers.start_soon(publish_slowly, other)
            speakers.start_soon(ask)
            answers = len(live) + 1
            speakers.start_soon(
                listen, one, answers + 2 * counts + len(names) * (1 + len(expected))
            )
            speakers.start_soon(listen, other, answers + len(alone))
            speakers.start_soon(listen, early, 1 + len(names) * len([*live, *alone]))
        said = heard[one]
        # one that takes long is overtaken by the next
        assert sorted(str(message) for message in said if message[0] == "COUNT") == sorted(
            str(["COUNT", f"c{number}", {"count": 300}]) for number in range(counts)
        )
        for to, published in ((one, live), (other, [*live, *alone])):
            answered = [message[1] for message in heard[to] if message[0] == "OK"]
            assert sorted(answered) == sorted(event.id for event in published)
        tail = serving.core.reader.tail(0, 10_000, 1 << 30, NOW)
        places = {entry.record.event.id: entry.seq for entry in tail.entries}
        for name in names:
            ids = events_of(said, name)
            assert sorted(ids) == sorted(expected)
            end = said.index(next(one for one in said if one[:2] == ["EOSE", name]))
            afterwards = [places[event_id] for event_id in events_of(said[end:], name)]
            assert afterwards == sorted(afterwards), "live events in another order than the log"
        await one.nothing(0.1)
        assert serving.core.counters.faults == 0


async def test_f6_a_ping_overtakes_what_is_queued(nursery: trio.Nursery) -> None:
    timing = Timing(ping_interval=0.2, write_timeout=30.0)
    serving = await serve(nursery, timing=timing, capacity=Capacity(outbox_bytes=4_000_000))
    async with client(serving.url) as writer:
        await writer.accept(*notes(200, size=100_000))
        slow = serving.dial()
        await slow.handshake()
        slow.send(["REQ", "s", {"kinds": [1]}])
        await serving.until(open_connections=2, subscriptions=1)
        (connection,) = [one for one in serving.server._connections if one._subscriptions]
        # in this order: what is queued was queued before the ping came
        await eventually(lambda: connection.writer.queued_bytes > 1_000_000)
        await eventually(lambda: bool(connection.writer._control))
        queued = connection.writer.queued_bytes
        data = b""
        with trio.fail_after(20):
            # the frame of a ping cannot be mistaken for text: notes have no zero bytes
            while b"\x89\x00" not in data:
                await trio.lowlevel.wait_readable(slow.socket)
                data += slow.socket.recv(1 << 20)
                assert data[-1:], "the connection ended"
        # what came before it was in the kernel's buffers already, and a chunk under way
        assert connection.writer.queued_bytes > queued // 3
        slow.close()


def test_f6_the_bounds_are_those_that_were_promised() -> None:
    timing, capacity = Timing(), Capacity()
    assert capacity.outbox_chunks == 100
    assert (timing.write_timeout, timing.block_timeout) == (10.0, 3.0)
    assert (timing.ping_interval, timing.pong_timeout) == (30.0, 60.0)
    assert Limits().max_message_length == 512_000


async def drop_abruptly(serving: Serving, number: int) -> None:
    """Connect, subscribe (without waiting for the answer now and then), and vanish."""
    one = serving.dial()
    await one.handshake()
    one.send(["REQ", "a", {"kinds": [1]}], ["REQ", "b", {"authors": [AUTHOR.pubkey]}])
    if number % 3:
        await trio.lowlevel.wait_readable(one.socket)
    if number % 5 == 0:
        one.publish(AUTHOR.sign(1, f"last words {number}", [], NOW))
    if number % 7 == 0:
        # in the middle of a frame
        one.socket.sendall(b"\x81\xfe\x40\x00half")
    if number % 2:
        one.reset()
    elif number % 4:
        one.close()
    else:
        one.finish()
        await trio.lowlevel.wait_readable(one.socket)
        one.close()


async def test_f7_after_1000_abrupt_disconnects_everything_is_back_at_the_baseline(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    await drop_abruptly(serving, 0)
    await serving.until(open_connections=0, subscriptions=0)
    baseline = await tasks(), descriptors()
    async with trio.open_nursery() as clients:
        limit = trio.CapacityLimiter(100)

        async def drop(number: int) -> None:
            async with limit:
                await drop_abruptly(serving, number)

        for number in range(1000):
            clients.start_soon(drop, number)
    await serving.until(open_connections=0, subscriptions=0)
    assert serving.core.counters.connections == 1001
    assert serving.core.counters.faults == 0
    assert serving.journal.errors() == []
    with trio.fail_after(10):
        while serving.server._ingest.unanswered:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert (await tasks(), descriptors()) == baseline


@pytest.mark.parametrize("way", ["fin", "reset", "close", "nothing said", "half a frame"])
async def test_f11_a_connection_leaves_nothing_for_the_collector(
    nursery: trio.Nursery, way: str
) -> None:
    serving = await serve(nursery)

    async def visit() -> None:
        peer = serving.dial()
        if way != "nothing said":
            await peer.handshake()
            peer.send(["REQ", "a", {"kinds": [1]}], ["REQ", "b", {}], ["CLOSE", "b"])
            peer.publish(*notes(2))
            await serving.until(open_connections=1, subscriptions=1)
        if way == "half a frame":
            peer.socket.sendall(b"\x81\xfe\x10")
        if way == "close":
            peer.socket.sendall(wire.close(1000))
        await trio.testing.wait_all_tasks_blocked(0.02)
        if way == "reset":
            peer.reset()
        elif way == "fin":
            peer.finish()
        else:
            peer.close()
        await serving.until(open_connections=0, subscriptions=0)
        await trio.testing.wait_all_tasks_blocked(0.02)
        peer.close()

    await visit()  # what is set up once
    gc.collect()
    gc.disable()
    try:
        await visit()
        found = gc.collect()
    finally:
        gc.enable()
    assert found == 0


@pytest.mark.parametrize("end", ["fin", "rst", "close"])
async def test_f7_each_way_to_leave_ends_the_subscriptions_at_once_while_nothing_flows(
    nursery: trio.Nursery, end: str
) -> None:
    serving = await serve(nursery)
    one = serving.dial()
    await one.handshake()
    one.send(["REQ", "s", {"kinds": [1]}])
    await serving.until(subscriptions=1)
    # long before any ping or timeout could have noticed
    with trio.fail_after(5):
        if end == "fin":
            one.finish()
        elif end == "rst":
            one.reset()
        else:
            one.send(["CLOSE", "s"])
        await serving.until(subscriptions=0)
    one.close()
    await serving.until(open_connections=0)
