"""What peers are told when events are removed, vanish or expire: over sockets, in order."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from relay.protocol.event import Event, Record
from relay.session.committer import LocalCommitter
from relay.session.companion import Ticket
from relay.session.core import BackPressure, Capacity, Timing
from relay.store.api import Committed, EventWriter, Terms
from relay.store.commit_protocol import Answer
from relay.store.memory import MemoryQuery, MemoryStore
from relay.store.sqlite import batch, writer
from relay.store.sqlite.reader import SQLiteReader
from relay.store.sqlite.writer import SQLiteWriter
from tests.corpus import Author, event_message
from tests.served import Client, client
from tests.session.serving import AUTHOR, NOW, Serving, notes, serve

OTHER = Author("somebody else")
VANISHED = "blocked: its author or recipient has asked to vanish from this relay"
DELETED = "blocked: its author has asked for the deletion of this event"


def vanish(at: int = NOW, relay: str = "ALL_RELAYS") -> Event:
    return AUTHOR.sign(62, "", [["relay", relay]], at)


def wrap(at: int = NOW) -> Event:
    return OTHER.sign(1059, "", [["p", AUTHOR.pubkey]], at)


@asynccontextmanager
async def connected(**options: object) -> AsyncIterator[tuple[Serving, Client]]:
    async with trio.open_nursery() as nursery:
        serving = await serve(nursery, **options)  # type: ignore[arg-type]  # each test's own
        async with client(serving.url) as publisher:
            yield serving, publisher
        assert serving.core.counters.faults == 0
        nursery.cancel_scope.cancel()


async def answers(publisher: Client, *events: Event) -> list[tuple[bool, str]]:
    """Publish all at once, and return the answers, which come in the order of the events."""
    for event in events:
        await publisher.send(event_message(event))
    found = []
    for event in events:
        _, event_id, accepted, reason = await publisher.expect("OK")
        assert event_id == event.id
        found.append((accepted, reason))
    return found


async def test_what_follows_a_request_to_vanish_is_judged_after_it() -> None:
    old, new = notes(2)
    newer = AUTHOR.sign(1, "back again", [], NOW + 1)
    async with connected() as (_, publisher):
        await publisher.accept(old, wrap())
        request = vanish()
        assert await answers(publisher, request, old, new, wrap(), newer, request) == [
            (True, ""),
            (False, VANISHED),
            (False, VANISHED),
            (False, VANISHED),
            (True, ""),
            (True, "duplicate: this event is already stored"),
        ]
        assert [event.id for event in await publisher.request({})] == [newer.id, request.id]


async def test_a_request_to_vanish_from_another_relay_is_refused_and_does_nothing() -> None:
    (old,) = notes(1)
    async with connected() as (_, publisher):
        await publisher.accept(old)
        accepted, reason = await publisher.publish(vanish(relay="wss://elsewhere.example.com"))
        assert (accepted, reason) == (
            False,
            "invalid: this request to vanish names other relays only",
        )
        assert await publisher.count({}) == 1
        await publisher.accept(vanish(relay="ws://127.0.0.1:4711/"))
        assert [event.kind for event in await publisher.request({})] == [62]


async def test_subscribers_are_told_of_a_request_to_vanish() -> None:
    async with connected() as (serving, publisher), client(serving.url) as subscriber:
        name = await subscriber.subscribe({"kinds": [62]})
        request = vanish()
        await publisher.accept(request)
        assert await subscriber.event(name) == request


async def test_a_recipient_deletes_a_gift_wrap() -> None:
    deletion = AUTHOR.sign(5, "", [["e", wrap().id]], NOW)
    async with connected() as (_, publisher):
        assert await answers(publisher, wrap(), deletion, wrap()) == [
            (True, ""),
            (True, ""),
            (False, DELETED),
        ]


async def test_an_ephemeral_gift_wrap_is_delivered_and_never_stored() -> None:
    passing = OTHER.sign(21059, "", [["p", AUTHOR.pubkey]], NOW)
    async with connected() as (serving, publisher):
        assert await publisher.authenticate(AUTHOR, serving.url) == (True, "")
        name = await publisher.subscribe({"kinds": [21059]})
        await publisher.accept(passing)
        assert await publisher.event(name) == passing
        assert await publisher.request({"ids": [passing.id]}) == []
        assert serving.core.reader.head() == 0


class Held(LocalCommitter):
    """Commits at once, and lets each batch be answered when it is allowed to."""

    def __init__(self, opened: EventWriter) -> None:
        super().__init__(opened)
        self.allowed = trio.Semaphore(0)

    async def finish(self, ticket: Ticket[Answer]) -> list[Committed]:
        await self.allowed.acquire()
        return await super().finish(ticket)


@pytest.mark.parametrize("request_", [AUTHOR.sign(5, "", [["e", notes(1)[0].id]], NOW), vanish()])
async def test_no_memory_of_an_event_outlives_its_removal(request_: Event) -> None:
    """The event is remembered as stored when its removal has been committed already."""
    (old,) = notes(1)
    store = MemoryStore()
    committer = Held(store.writer())
    async with connected(store=store, committer=committer) as (_, publisher):
        await publisher.send(event_message(old))
        while store.head < 1:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.005)
        await publisher.send(event_message(request_))
        while store.head < 2:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.005)
        committer.allowed.release()
        assert (await publisher.expect("OK", old.id))[2]
        await publisher.send(event_message(old))
        for _ in range(3):
            committer.allowed.release()
        assert (await publisher.expect("OK", request_.id))[2]
        assert not (await publisher.expect("OK", old.id))[2]


class Interrupted(LocalCommitter):
    """Pauses before the third part of a removal, with which the writer may have gone on itself."""

    def __init__(self, opened: EventWriter, request: Event, *, writer_is_quicker: bool) -> None:
        super().__init__(opened)
        self._opened = opened
        self._writer_is_quicker = writer_is_quicker
        self._request = request
        self.parts = 0
        self.go_on = trio.Event()

    async def begin(
        self, records: Sequence[Record], now: int, terms: Terms | None = None
    ) -> Ticket[Answer]:
        if any(record.event == self._request for record in records):
            self.parts += 1
            if self.parts == 3:
                await self.go_on.wait()
                while self._writer_is_quicker and self._opened.maintain():
                    pass
        return await super().begin(records, now, terms)


@pytest.mark.parametrize("writer_is_quicker", [False, True])
async def test_others_publish_while_much_is_removed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    writer_is_quicker: bool,
) -> None:
    for module in (batch, writer):
        monkeypatch.setattr(module, "REMOVED_AT_ONCE", 5)
    path = tmp_path / "store"
    opened, reader, request = SQLiteWriter(path), SQLiteReader(path), vanish()
    committer = Interrupted(opened, request, writer_is_quicker=writer_is_quicker)
    try:
        async with (
            connected(reader=reader, committer=committer) as (serving, publisher),
            client(serving.url) as other,
        ):
            name = await other.subscribe({"kinds": [62]})
            mine = notes(23)
            await publisher.accept(*mine)
            await publisher.send(event_message(request))
            with trio.fail_after(10):
                while committer.parts < 3:  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.005)
            await other.accept(OTHER.sign(1, "meanwhile", [], NOW))
            # neither done nor said to be, but what is to go does not come back
            assert await publisher.publish(mine[0]) == (False, VANISHED)
            assert not publisher.pending("OK", request.id)
            assert await other.count({"authors": [AUTHOR.pubkey]}) == 23 - 10
            assert serving.server.statistics().events_unanswered == 1
            committer.go_on.set()
            assert (await publisher.expect("OK", request.id))[2:] == [True, ""]
            assert committer.parts == (3 if writer_is_quicker else 5)
            assert sorted(event.kind for event in await other.request({})) == [1, 62]
            assert await other.event(name) == request
            await other.nothing(0.2)
    finally:
        reader.close()
        opened.close()


# --- Expiration (NIP-40) -----------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def expiring(content: str = "", kind: int = 1, at: int = NOW) -> Event:
    return AUTHOR.sign(kind, content, [["expiration", str(NOW + 10)]], at)


async def test_what_expires_before_it_is_published_is_sent_to_nobody() -> None:
    clock, store = Clock(), MemoryStore()
    committer = Held(store.writer())
    quiet = Timing(follow_interval=1000)
    async with (
        connected(store=store, committer=committer, wall_clock=clock, timing=quiet) as (
            serving,
            publisher,
        ),
        client(serving.url) as subscriber,
    ):
        name = await subscriber.subscribe({"kinds": [1, 20_001]})
        last = AUTHOR.sign(1, "last", [], NOW)
        for event in (expiring("1"), expiring("2", kind=20_001), last):
            await publisher.send(event_message(event))
        while store.head < 2:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.005)
        clock.now = NOW + 10
        for _ in range(5):
            committer.allowed.release()
        assert await subscriber.event(name) == last
        assert not subscriber.pending("EVENT", name)


@pytest.mark.parametrize("kind", [1, 20_001])
async def test_an_expired_event_is_refused_and_one_that_is_not_is_sent(kind: int) -> None:
    clock = Clock()
    async with connected(wall_clock=clock) as (_, publisher):
        name = await publisher.subscribe({"kinds": [kind]})
        await publisher.accept(expiring("in time", kind))
        assert (await publisher.event(name)).content == "in time"
        clock.now = NOW + 10
        accepted, reason = await publisher.publish(expiring("too late", kind))
        assert (accepted, reason) == (False, "invalid: the event has expired")


async def test_a_later_page_leaves_out_what_has_expired_since_the_query_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, store = Clock(), MemoryStore()
    pages = 0
    page = MemoryQuery.page

    def aging(query: MemoryQuery, *arguments: object) -> object:
        nonlocal pages
        pages += 1
        if pages == 2:
            clock.now = NOW + 10
        return page(query, *arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(MemoryQuery, "page", aging)
    one_each = Capacity(page_events=1)
    async with connected(store=store, wall_clock=clock, capacity=one_each) as (_, publisher):
        staying = AUTHOR.sign(1, "stays", [], NOW - 5)
        await publisher.accept(*[expiring(at=NOW - number) for number in range(4)], staying)
        found = await publisher.request({"kinds": [1]})
        assert [event.created_at for event in found] == [NOW, NOW - 5]
        assert pages >= 5


@pytest.mark.parametrize("policy", [BackPressure.DROP_NEW, BackPressure.CATCH_UP])
async def test_what_expires_while_it_waits_for_a_laggard_is_not_sent(policy: BackPressure) -> None:
    clock = Clock()
    capacity = Capacity(outbox_bytes=65_536, backlog_events=1_000)
    async with (
        connected(wall_clock=clock, back_pressure=policy, capacity=capacity) as (
            serving,
            publisher,
        ),
        client(serving.url) as slow,
    ):
        name = await slow.subscribe({"kinds": [1]})
        number = 0
        while not serving.core.counters.fell_behind:
            number += 1
            await publisher.accept(AUTHOR.sign(1, f"{number} " + "x" * 30_000, [], NOW))
        late = [expiring(f"late {number}") for number in range(5)]
        last = AUTHOR.sign(1, "last", [], NOW)
        await publisher.accept(*late, last)
        clock.now = NOW + 10
        received: list[str] = []
        while not received or received[-1] != last.id:
            received.append((await slow.event(name)).id)
        assert not {event.id for event in late} & set(received)
        assert len(received) == number + 1


async def test_what_is_removed_while_it_waits_for_a_laggard_is_not_sent() -> None:
    capacity = Capacity(outbox_bytes=65_536)
    async with (
        connected(capacity=capacity) as (serving, publisher),
        client(serving.url) as slow,
    ):
        name = await slow.subscribe({"kinds": [1]})
        number = 0
        while not serving.core.counters.fell_behind:
            number += 1
            await publisher.accept(OTHER.sign(1, f"{number} " + "x" * 30_000, [], NOW))
        gone, last = OTHER.sign(1, "deleted", [], NOW), OTHER.sign(1, "last", [], NOW)
        deletion = OTHER.sign(5, "", [["e", gone.id]], NOW)
        await publisher.accept(gone, *notes(3), deletion, vanish(), last)
        received: list[str] = []
        while not received or received[-1] != last.id:
            received.append((await slow.event(name)).id)
        assert len(received) == number + 1
