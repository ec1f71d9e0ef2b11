"""What others commit to the same store reaches the subscriptions too, once and in order."""

from typing import Any

import trio

from relay.errors import StoreUnavailable
from relay.protocol.event import record
from relay.protocol.filters import Filter
from relay.session.core import Capacity, Timing
from relay.store.api import LogEntry, Tail
from relay.store.memory import MemoryReader, MemoryStore
from tests.corpus import Author
from tests.served import Client, client
from tests.session.serving import NOW, events_of, notes, serve


async def test_commits_of_another_process_are_found_and_published(nursery: trio.Nursery) -> None:
    store = MemoryStore()
    serving = await serve(nursery, store=store, timing=Timing(follow_interval=0.02))
    elsewhere = store.writer()
    async with client(serving.url) as reader:
        live = await reader.subscribe({"kinds": [1]})
        foreign = notes(5)
        elsewhere.commit([record(event) for event in foreign], NOW)
        assert [(await reader.event(live)).id for _ in foreign] == [one.id for one in foreign]
        await reader.nothing(0.1)


async def test_p3_foreign_and_own_commits_interleave_in_log_order_each_once(
    nursery: trio.Nursery,
) -> None:
    store = MemoryStore()
    # the follower never looks by itself: what is found is found by the gaps
    serving = await serve(nursery, store=store, timing=Timing(follow_interval=3600.0))
    elsewhere = store.writer()
    ours, theirs = notes(20, author=Author("ours")), notes(20, author=Author("theirs"))
    async with client(serving.url) as reader, client(serving.url) as writer:
        live = await reader.subscribe({"kinds": [1]})
        expected: list[str] = []
        for own, foreign in zip(ours, theirs, strict=True):
            elsewhere.commit([record(foreign)], NOW)
            await writer.accept(own)
            expected += [foreign.id, own.id]
        assert [(await reader.event(live)).id for _ in expected] == expected
        await reader.nothing(0.1)


async def test_a_foreign_deletion_is_noticed_by_the_memory_of_recent_ids(
    nursery: trio.Nursery,
) -> None:
    store = MemoryStore()
    serving = await serve(nursery, store=store, timing=Timing(follow_interval=0.02))
    author = Author("deleted elsewhere")
    note = author.sign(1, "regretted", [], NOW)
    deletion = author.sign(5, "", [["e", note.id]], NOW)
    async with client(serving.url) as one:
        live = await one.subscribe({"kinds": [5]})
        await one.accept(note)
        store.writer().commit([record(deletion)], NOW)
        assert (await one.event(live)).id == deletion.id
        accepted, reason = await one.publish(note)
        assert not accepted
        assert reason.startswith("blocked: ")


async def test_p3_who_comes_and_goes_during_a_large_fan_out_misses_nothing(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    # enough of them that others run between two of their deliveries
    audience = [serving.dial() for _ in range(150)]
    for number, one in enumerate(audience):
        await one.handshake()
        one.send(["REQ", f"audience {number % 3}", {"kinds": [1]}])
    await serving.until(open_connections=150, subscriptions=150)
    published = notes(60)
    heard: dict[str, list[str]] = {}
    async with trio.open_nursery() as visitors:
        over = trio.Event()

        async def visit(number: int) -> None:
            async with client(serving.url) as one:
                visits = 0
                while not over.is_set():
                    visits += 1
                    name = await one.subscribe({"kinds": [1]}, name=f"{number} {visits}")
                    await trio.sleep(0.001 * (number + visits % 7))
                    await one.send(["CLOSE", name])
                    # a note of another kind that comes back says that the CLOSE has been seen
                    await one.accept(Author(f"visitor {number}").sign(2, str(visits), [], NOW))
                    heard[name] = []
                    while one.pending("EVENT", name):
                        heard[name].append((await one.event(name)).id)
                    await one.nothing(0.001)

        for number in range(6):
            visitors.start_soon(visit, number)
        async with client(serving.url) as writer:
            for note in published:
                await writer.accept(note)
        over.set()
    for one in audience:
        one.close()
    order = {note.id: number for number, note in enumerate(published)}
    assert len(heard) > 20
    for ids in heard.values():
        # newest first up to where it became live, then the rest in the log's order, each once
        numbers = [order[one] for one in ids]
        assert sorted(numbers) == list(range(len(numbers)))
        live = numbers[max(numbers[:1], default=-1) + 1 :]
        assert live == sorted(live)


async def test_p3_a_single_event_is_in_the_log_before_anybody_is_told(
    nursery: trio.Nursery,
) -> None:
    # else a laggard that is passed over could come to the log's end before the event is there
    serving = await serve(nursery)
    positions: list[tuple[int, int]] = []

    class Listening:
        def deliver_at_once(self, seq: int, _event: object) -> bool:
            positions.append((seq, serving.core.log.position))
            return False

    serving.core.matcher.add(Listening(), (Filter(),))  # type: ignore[arg-type]  # the rest is for bursts
    async with client(serving.url) as writer:
        for note in notes(3):
            await writer.accept(note)
    assert positions == [(1, 1), (2, 2), (3, 3)]


class FailingReader(MemoryReader):
    """A reader whose log cannot be read while the test says so."""

    fails = False

    def tail(self, after: int, max_events: int, max_bytes: int, now: int) -> Tail:
        if self.fails:
            raise StoreUnavailable("the disk does not answer")
        return super().tail(after, max_events, max_bytes, now)


async def test_a_gap_that_cannot_be_read_is_closed_later_and_ends_nothing(
    nursery: trio.Nursery,
) -> None:
    store = MemoryStore()
    source = FailingReader(store)
    timing = Timing(follow_interval=0.02)
    serving = await serve(nursery, store=store, reader=source, timing=timing)
    (foreign,), (own,) = notes(1, author=Author("theirs")), notes(1, author=Author("ours"))
    async with client(serving.url) as reader, client(serving.url) as writer:
        live = await reader.subscribe({"kinds": [1]})
        source.fails = True
        store.writer().commit([record(foreign)], NOW)
        await writer.accept(own)
        await reader.nothing(0.1)
        source.fails = False
        assert [(await reader.event(live)).id for _ in range(2)] == [foreign.id, own.id]
        await reader.nothing(0.1)


async def test_f1_a_gap_longer_than_one_look_at_the_log_is_published_whole(
    nursery: trio.Nursery,
) -> None:
    store = MemoryStore()
    serving = await serve(nursery, store=store)
    events = notes(1_300)
    async with client(serving.url) as one:
        live = await one.subscribe({"kinds": [1]})
        # another process of the same relay, in one commit
        store.writer().commit([record(event) for event in events], NOW)
        assert [(await one.event(live)).id for _ in events] == [event.id for event in events]


async def test_p3_nothing_falls_between_two_steps_of_a_subscription(
    nursery: trio.Nursery,
) -> None:
    # an event in every single step of the scheduler: whatever a subscription waits for between
    # finding that it has everything and being told what is new, something comes meanwhile
    store = MemoryStore()
    serving = await serve(
        nursery,
        store=store,
        capacity=Capacity(outbox_bytes=4_000, page_events=5),
        timing=Timing(follow_interval=1000.0),
    )
    events = notes(800)
    records = [record(event) for event in events]
    writer = store.writer()
    names = [f"s{number}" for number in range(20)]
    async with client(serving.url) as one, client(serving.url) as two:

        async def publish() -> None:
            for number, new in enumerate(records, 1):
                writer.commit([new], NOW)
                await serving.server._publisher.publish([LogEntry(number, new)], {})
                await trio.lowlevel.checkpoint()

        async def ask(by: Client, mine: list[str]) -> None:
            for name in mine:
                await by.send(["REQ", name, {"kinds": [1], "limit": 5_000}])
                await trio.sleep(0.01)

        async def listen(to: Client, mine: list[str]) -> None:
            for _ in range(len(mine) * (len(events) + 1) + 1):
                heard[to].append(await to.receive())

        heard: dict[Client, list[list[Any]]] = {one: [], two: []}
        async with trio.open_nursery() as everybody:
            everybody.start_soon(publish)
            for by, mine in ((one, names[:10]), (two, names[10:])):
                everybody.start_soon(ask, by, mine)
                everybody.start_soon(listen, by, mine)
        expected = [event.id for event in events]
        for by, mine in ((one, names[:10]), (two, names[10:])):
            for name in mine:
                ids = events_of(heard[by], name)
                assert len(ids) == len(set(ids))
                assert sorted(ids) == sorted(expected)
                end = heard[by].index(next(m for m in heard[by] if m[:2] == ["EOSE", name]))
                live = events_of(heard[by][end:], name)
                assert live == expected[len(expected) - len(live) :]
