"""Searches as clients see them (NIP-50): at once, in order, live, and in nobody's way."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import open_websocket_url

from relay.errors import StoreUnavailable
from relay.protocol.event import record
from relay.protocol.filters import Filter
from relay.session.committer import LocalCommitter
from relay.session.core import Timing
from relay.store.api import Guard, Lookup, Query
from relay.store.memory import MemoryReader, MemoryStore
from relay.store.sqlite.reader import SQLiteReader
from relay.store.sqlite.writer import SQLiteWriter
from tests.corpus import START, Author
from tests.served import client, served_relay
from tests.session.serving import notes, serve

AUTHOR = Author("searching")


async def test_what_was_just_accepted_is_found_and_live_events_are_searched(
    tmp_path: Path,
) -> None:
    with served_relay(tmp_path) as relay:
        document = await trio.to_thread.run_sync(information, relay.port)
        assert 50 in document["supported_nips"]
        async with client(relay.url) as reader, client(relay.url) as writer:
            live = await reader.subscribe({"search": "purple ostr*"})
            for number in range(8):
                note = AUTHOR.sign(1, f"An ostrich, purple no. {number}", (), START + number)
                await writer.accept(note)
                assert await writer.request({"search": f'"no {number}"'}) == [note]
                assert await reader.event(live) == note
            await writer.accept(AUTHOR.sign(1, "a green ostrich", (), START))
            # a count is no different: nobody has searched since
            assert await writer.count({"search": "green"}) == 1
            await writer.accept(AUTHOR.sign(4, "purple ostrich", (), START))
            best = AUTHOR.sign(1, "purple, purple ostrich", (), START - 10)
            await writer.accept(best)
            assert await reader.event(live) == best
            found = await writer.request({"search": "purple ostrich", "limit": 3, "kinds": [1]})
            assert found[0] == best
            assert len(found) == 3
            assert await writer.count({"search": "purple"}) == 9
            assert await writer.count({"search": "purple"}, {"search": "green"}) == 10
            deletion = AUTHOR.sign(5, "", [["e", best.id]], START + 100)
            await writer.accept(deletion)
            assert best not in await writer.request({"search": "purple"})
        relay.kill()
        relay.start()
        async with client(relay.url) as reader:
            assert len(await reader.request({"search": "purple ostrich"})) == 8


async def test_where_search_is_switched_off_it_is_neither_served_nor_announced(
    tmp_path: Path,
) -> None:
    with served_relay(tmp_path, config="search = false") as relay:
        document = await trio.to_thread.run_sync(information, relay.port)
        assert 50 not in document["supported_nips"]
        async with client(relay.url) as one:
            for verb in ("REQ", "COUNT"):
                await one.send([verb, "s", {"search": "nostr"}])
                refusal = ["CLOSED", "s", "unsupported: search is switched off"]
                assert await one.expect("CLOSED", "s") == refusal
            assert await one.request({"search": ""}) == []


def information(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/", headers={"Accept": "application/nostr+json"})
    document: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return document


@contextmanager
def sqlite_store(path: Path) -> Iterator[tuple[SQLiteWriter, SQLiteReader]]:
    with closing(SQLiteWriter(path)) as writer, closing(SQLiteReader(path)) as reader:
        yield writer, reader


async def conversation(url: str, *messages: object, until: Sequence[object]) -> list[list[object]]:
    """Send messages, and return what is answered up to the one that begins so."""
    async with open_websocket_url(url) as connection:
        for message in messages:
            await connection.send_message(json.dumps(message))
        answers: list[list[object]] = []
        with trio.fail_after(10):
            while not answers or answers[-1][: len(until)] != list(until):
                answers.append(json.loads(await connection.get_message()))
        return [answer for answer in answers if answer[0] != "AUTH"]


class IdleIndex(LocalCommitter):
    """A committer that indexes when it is told to, and not when it is asked to."""

    def __init__(self, writer: SQLiteWriter) -> None:
        super().__init__(writer)
        self.problem: StoreUnavailable | None = None

    async def index(self, position: int) -> None:
        del position
        if self.problem is not None:
            raise self.problem
        await trio.sleep_forever()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Never be idle, and so never index."""


@pytest.mark.parametrize("problem", [None, StoreUnavailable("the disk is full")])
async def test_an_index_that_lags_behind_is_not_waited_for_for_ever(
    nursery: trio.Nursery, tmp_path: Path, problem: StoreUnavailable | None
) -> None:
    with sqlite_store(tmp_path / "store.sqlite") as (writer, reader):
        events = notes(4)
        writer.commit([record(event) for event in events], START)
        writer.index(2)
        committer = IdleIndex(writer)
        committer.problem = problem
        timing = Timing(search_timeout=0.05)
        serving = await serve(nursery, reader=reader, committer=committer, timing=timing)
        request = ["REQ", "s", {"search": "note"}]
        answers = await conversation(serving.url, request, until=["EOSE"])
        assert [answer[0] for answer in answers] == ["EVENT", "EVENT", "EOSE"]
        # it is not known that this is all
        assert answers[-1] == ["EOSE", "s"]
        counted = await conversation(serving.url, ["COUNT", *request[1:]], until=["COUNT"])
        assert counted == [["COUNT", "s", {"count": 2, "approximate": True}]]
        writer.index(2)
        answers = await conversation(serving.url, request, until=["EOSE"])
        assert (len(answers), answers[-1]) == (5, ["EOSE", "s", ["finish"]])
        serving.server.stop()


class SlowLookup:
    """A look-up that lasts until it is stopped, or told to go on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.was_stopped = False
        self.problem: StoreUnavailable | None = None

    def run(self) -> None:
        self.begun.set()
        assert self.may_end.wait(10)
        if self.problem is not None:
            raise self.problem

    def stop(self) -> None:
        self.was_stopped = not self.may_end.is_set()
        self.may_end.set()


class SlowReader(MemoryReader):
    """Looks up for all that search before the first page."""

    def __init__(self, store: MemoryStore, make: Callable[[], SlowLookup]) -> None:
        super().__init__(store)
        self._make = make

    def query(  # type: ignore[override]  # another sort of query
        self, filters: Sequence[Filter], default_limit: int, now: int, guard: Guard | None = None
    ) -> Query:
        query = super().query(filters, default_limit, now, guard)
        if any(filter_.searches for filter_ in filters):
            return SlowQuery(query, self._make())
        return query


class SlowQuery:
    def __init__(self, query: Query, lookup: SlowLookup) -> None:
        self._query = query
        self._lookup = lookup
        self.position = query.position
        self.page = query.page

    @property
    def complete(self) -> bool | None:
        return self._query.complete

    @property
    def lookup(self) -> Lookup | None:
        return None if self._lookup.may_end.is_set() else self._lookup


async def begun(lookup: SlowLookup) -> None:
    with trio.fail_after(10):
        while not lookup.begun.is_set():  # noqa: ASYNC110 - a thread tells of it
            await trio.sleep(0.005)


async def slow_server(nursery: trio.Nursery, patience: float) -> tuple[str, list[SlowLookup]]:
    store = MemoryStore()
    store.writer().commit([record(event) for event in notes(3)], START)
    lookups: list[SlowLookup] = []

    def make() -> SlowLookup:
        lookups.append(SlowLookup())
        return lookups[-1]

    serving = await serve(
        nursery,
        store=store,
        reader=SlowReader(store, make),
        timing=Timing(search_timeout=patience),
    )
    return serving.url, lookups


async def test_a_search_that_takes_long_delays_other_searches_only(
    nursery: trio.Nursery,
) -> None:
    url, lookups = await slow_server(nursery, patience=30)
    async with client(url) as one, client(url) as other:
        await one.send(["REQ", "slow", {"search": "note"}])
        await until(lambda: bool(lookups))
        await begun(lookups[0])
        await other.send(["REQ", "waits", {"search": "note"}])
        assert len(await one.request({})) == 3
        assert len(await other.request({})) == 3
        await until(lambda: len(lookups) == 2)
        assert not lookups[1].begun.is_set()
        assert not one.pending("EVENT", "slow")
        lookups[0].may_end.set()
        await one.expect("EOSE", "slow")
        await begun(lookups[1])
        lookups[1].may_end.set()
        await other.expect("EOSE", "waits")
        assert not lookups[0].was_stopped
    nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - nobody tells of it
            await trio.sleep(0.005)


@pytest.mark.parametrize("ending", ["close", "leave", "time"])
async def test_a_lookup_that_nobody_waits_for_is_stopped(
    nursery: trio.Nursery, ending: str
) -> None:
    url, lookups = await slow_server(nursery, patience=0.2 if ending == "time" else 30)
    async with client(url) as one:
        await one.send(["REQ", "slow", {"search": "note"}])
        await until(lambda: bool(lookups))
        await begun(lookups[0])
        if ending == "close":
            await one.send(["CLOSE", "slow"])
        elif ending == "time":
            await one.expect("EOSE", "slow")
        if ending != "leave":
            await until(lambda: lookups[0].was_stopped)
    await until(lambda: lookups[0].was_stopped)
    nursery.cancel_scope.cancel()


async def test_a_lookup_that_fails_ends_its_subscription_only(nursery: trio.Nursery) -> None:
    url, lookups = await slow_server(nursery, patience=30)
    async with client(url) as one:
        await one.send(["REQ", "slow", {"search": "note"}])
        await until(lambda: bool(lookups))
        await begun(lookups[0])
        lookups[0].problem = StoreUnavailable("the disk is gone")
        lookups[0].may_end.set()
        closed = await one.expect("CLOSED", "slow")
        assert closed[2] == "error: the disk is gone"
        assert len(await one.request({})) == 3
    nursery.cancel_scope.cancel()
