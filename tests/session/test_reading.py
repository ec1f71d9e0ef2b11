"""Who may read what, over real connections: every way by which an event could reach a reader."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio

from relay.policy.reading import PrivateKinds, ReadingRules
from relay.protocol.event import Event
from relay.protocol.limits import Limits
from relay.session.core import BackPressure, Capacity
from tests.corpus import Author, event_message
from tests.served import Client, client
from tests.session.serving import NOW, Serving, notes, serve

ALICE, BOB, CAROL = Author("alice"), Author("bob"), Author("carol")
EVERYTHING: Final[dict[str, Any]] = {}


def message(kind: int, to: Author, number: int = 0, *, by: Author = ALICE) -> Event:
    return by.sign(kind, f"secret {number}", [["p", to.pubkey]], NOW - 1000 + number)


@asynccontextmanager
async def somebody(serving: Serving, *authors: Author) -> AsyncIterator[Client]:
    """Connect, and authenticate as all of `authors`."""
    async with client(serving.url) as one:
        for author in authors:
            assert await one.authenticate(author, serving.url) == (True, "")
        yield one


def ids(events: list[Event]) -> list[str]:
    return [event.id for event in events]


async def refusal(one: Client, verb: str, *filters: dict[str, Any]) -> str:
    name = await one._request(verb, filters, None)
    closed = await one.expect("CLOSED", name)
    return str(closed[2]).partition(":")[0]


async def test_a_request_shows_private_events_to_author_and_recipient_only(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    note = notes(1)[0]
    secrets = [message(4, BOB, 1), message(1059, BOB, 2)]
    async with somebody(serving) as publisher:
        await publisher.accept(note, *secrets)
    readers: list[tuple[tuple[Author, ...], int]] = [
        ((), 1),
        ((CAROL,), 1),
        ((ALICE,), 3),
        ((BOB,), 3),
        ((CAROL, BOB), 3),
    ]
    for authors, seen in readers:
        async with somebody(serving, *authors) as one:
            for asked in ({}, {"kinds": [1, 4, 1059]}, {"ids": [note.id, *ids(secrets)]}):
                assert len(await one.request(asked)) == seen
                assert await one.count(asked) == seen
            # the limit is for what is shown
            assert ids(await one.request({"limit": 1})) == [note.id]
            assert len(await one.request({"#p": [BOB.pubkey]})) == seen - 1
            assert await one.count({"#p": [BOB.pubkey]}) == seen - 1


async def test_what_asks_for_private_events_only_is_closed(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    secrets = [message(4, BOB, 1), message(1059, BOB, 2)]
    async with somebody(serving) as one:
        await one.accept(*secrets)
        for verb in ("REQ", "COUNT"):
            assert await refusal(one, verb, {"kinds": [4]}) == "auth-required"
            asked = {"kinds": [1059, 4], "#p": [BOB.pubkey]}
            assert await refusal(one, verb, asked) == "auth-required"
            assert await refusal(one, verb, EVERYTHING, {"kinds": [21059]}) == "auth-required"
        assert await one.authenticate(CAROL, serving.url) == (True, "")
        for verb in ("REQ", "COUNT"):
            assert await refusal(one, verb, {"kinds": [4], "#p": [BOB.pubkey]}) == "restricted"
            assert await refusal(one, verb, {"kinds": [4], "authors": [ALICE.pubkey]}) == (
                "restricted"
            )
        assert await one.request({"kinds": [4, 1059]}) == []
        assert await one.count({"kinds": [4, 1059]}) == 0
        assert await one.authenticate(BOB, serving.url) == (True, "")
        assert await one.count({"kinds": [4, 1059], "#p": [BOB.pubkey]}) == 2
        assert ids(await one.request({"kinds": [4, 1059]})) == ids(secrets[::-1])
    assert serving.server.subscriptions == 0


async def test_a_refused_request_ends_what_was_open_under_its_id(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    async with somebody(serving) as one, somebody(serving) as writer:
        await one.subscribe({"kinds": [1]}, name="a")
        await one.send(["REQ", "a", {"kinds": [4]}])
        await one.expect("CLOSED", "a")
        await writer.accept(*notes(1))
        await one.nothing(0.1)
        assert serving.server.subscriptions == 0


@pytest.mark.parametrize("kind", [4, 1059, 21059])
async def test_live_events_are_shown_from_the_authentication_on(
    nursery: trio.Nursery, kind: int
) -> None:
    serving = await serve(nursery)
    async with somebody(serving) as one, somebody(serving) as writer:
        name = await one.subscribe({})
        first, second, third, theirs = [message(kind, BOB, n) for n in range(3)] + [
            message(kind, CAROL, 9)
        ]
        await writer.accept(first)
        await one.authenticate(BOB, serving.url)
        await writer.accept(second, theirs, third)
        assert [(await one.event(name)).id for _ in range(2)] == [second.id, third.id]
        await one.nothing(0.05)
        assert serving.core.counters.dropped == serving.core.counters.ephemeral_dropped == 0


async def test_one_publication_reaches_those_who_may_see_it_and_nobody_else(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    secret, public = message(1059, BOB), notes(1)[0]
    async with (
        somebody(serving) as nobody,
        somebody(serving, CAROL) as carol,
        somebody(serving, BOB) as bob,
        somebody(serving, ALICE, CAROL) as alice,
    ):
        everybody = [nobody, carol, bob, alice]
        # under one id, so that the frames could be shared
        for one in everybody:
            await one.subscribe({}, name="same")
        await alice.accept(secret, public)
        received = [ids([await one.event("same")]) for one in everybody]
        assert received == [[public.id], [public.id], [secret.id], [secret.id]]
        for one in (bob, alice):
            assert (await one.event("same")).id == public.id


async def test_events_of_a_burst_are_looked_at_one_by_one(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    async with somebody(serving) as nobody, somebody(serving, BOB) as bob:
        for one in (nobody, bob):
            await one.subscribe({}, name="same")
        batch = [
            message(1059, BOB, number) if number % 2 else notes(1, author=Author(str(number)))[0]
            for number in range(20)
        ]
        for event in batch:
            await bob.send(event_message(event))
        assert [(await bob.event("same")).id for _ in batch] == ids(batch)
        assert [(await nobody.event("same")).id for _ in range(10)] == ids(batch[::2])
        await nobody.nothing(0.05)


SMALL: Final = Capacity(outbox_bytes=400_000, backlog_events=2)
LARGE: Final = "x" * 60_000
"""Some of these fill the kernel's buffers and the outbox."""


@pytest.mark.parametrize("kept", [4096, 2])
@pytest.mark.parametrize("readers", [(), (BOB,)])
async def test_catching_up_with_the_log_hides_and_shows_the_same(
    nursery: trio.Nursery, kept: int, readers: tuple[Author, ...]
) -> None:
    # out of memory, or out of the store
    serving = await serve(nursery, capacity=SMALL, log_entries=kept)
    async with somebody(serving) as writer, somebody(serving, *readers) as reader:
        name = await reader.subscribe({})
        published: list[Event] = []
        while len(published) < 200 or not serving.core.counters.fell_behind:
            number = len(published)
            published += [
                ALICE.sign(1, LARGE, [], NOW - number),
                ALICE.sign(1059, LARGE[:100], [["p", BOB.pubkey]], NOW - number),
            ]
            await writer.accept(*published[-2:])
        expected = [event.id for event in published if readers or event.kind == 1]
        assert [(await reader.event(name)).id for _ in expected] == expected
        await reader.nothing(0.05)


async def test_catching_up_shows_what_comes_after_an_authentication(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery, capacity=SMALL)
    async with somebody(serving) as writer, somebody(serving) as reader:
        name = await reader.subscribe({})
        number = 0
        while not serving.core.counters.fell_behind:
            await writer.accept(ALICE.sign(1, LARGE, [], NOW - number))
            number += 1
        assert await reader.authenticate(BOB, serving.url) == (True, "")
        secret = message(1059, BOB)
        await writer.accept(secret)
        received = [(await reader.event(name)).id for _ in range(number + 1)]
        assert received[-1] == secret.id


@pytest.mark.parametrize("policy", BackPressure)
async def test_what_is_hidden_fills_nobodys_queue(
    nursery: trio.Nursery, policy: BackPressure
) -> None:
    # else a slow reader would be told by drops, or by a Close, that something happened
    serving = await serve(nursery, capacity=SMALL, back_pressure=policy)
    stuck = serving.dial()
    try:
        await stuck.handshake()
        stuck.send(["REQ", "a", {"limit": 0}])
        async with somebody(serving) as writer:
            await serving.until(subscriptions=1)
            for number in range(160):
                kind = 21059 if number % 2 else 1059
                await writer.accept(ALICE.sign(kind, LARGE, [["p", BOB.pubkey]], NOW - number))
            counters = serving.core.counters
            assert (counters.dropped, counters.ephemeral_dropped, counters.fell_behind) == (0, 0, 0)
            assert counters.deliveries == 0
            assert serving.server.subscriptions == 1
    finally:
        stuck.socket.close()


async def test_rights_end_with_the_connection(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    secret = message(1059, BOB)
    async with somebody(serving, BOB) as first:
        await first.accept(secret)
        assert ids(await first.request({})) == [secret.id]
    async with somebody(serving) as again:
        assert await again.request({}) == []
        assert await again.authenticate(BOB, serving.url) == (True, "")
        assert ids(await again.request({})) == [secret.id]


async def test_an_authentication_for_another_relay_is_refused(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, public_url="wss://relay.example.com")
    async with client(serving.url) as one:
        accepted, reason = await one.authenticate(BOB, "wss://elsewhere.example")
        assert (accepted, reason.partition(":")[0]) == (False, "invalid")
        assert await one.authenticate(BOB, "WSS://Relay.Example.com:443/") == (True, "")
        # from this machine, and as it was dialled
        assert await one.authenticate(CAROL, serving.url) == (True, "")
        assert serving.core.public_url is not None


async def test_auth_required_comes_before_every_verb(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, limits=Limits(auth_required=True))
    async with client(serving.url) as one:
        accepted, reason = await one.publish(notes(1)[0])
        assert (accepted, reason.partition(":")[0]) == (False, "auth-required")
        for verb in ("REQ", "COUNT"):
            assert await refusal(one, verb, {}) == "auth-required"
        await one.send(["NEG-OPEN", "neg", {}, "6100000200"])
        error = await one.expect("NEG-ERR", "neg")
        assert str(error[2]).partition(":")[0] == "auth-required"
        assert await one.authenticate(BOB, serving.url) == (True, "")
        await one.accept(*notes(1))
        assert await one.count({}) == 1
        await one.send(["NEG-OPEN", "neg", {}, "6100000200"])
        await one.expect("NEG-MSG", "neg")


async def test_reconciliation_tells_of_nothing_hidden(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    secret, public = message(1059, BOB), notes(1)[0]
    async with somebody(serving) as nobody, somebody(serving, BOB) as bob:
        await nobody.accept(secret, public)
        answers = {}
        for name, one in (("nobody", nobody), ("bob", bob)):
            await one.send(["NEG-OPEN", "neg", {}, "6100000200"])
            answers[name] = (await one.expect("NEG-MSG", "neg"))[2]
        assert public.id in answers["nobody"]
        assert secret.id not in answers["nobody"]
        assert secret.id in answers["bob"]
        await nobody.send(["NEG-OPEN", "only", {"kinds": [1059]}, "6100000200"])
        error = await nobody.expect("NEG-ERR", "only")
        assert str(error[2]).partition(":")[0] == "auth-required"


async def test_an_event_for_authentication_is_never_published(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    async with somebody(serving) as one, somebody(serving, BOB) as bob:
        await one.subscribe({})
        tags = [("relay", serving.url), ("challenge", "0" * 32)]
        proof = BOB.sign(22242, "", tags, NOW)
        accepted, reason = await bob.publish(proof)
        assert (accepted, reason.partition(":")[0]) == (False, "invalid")
        await one.nothing(0.05)
        assert await bob.request({"kinds": [22242]}) == []


async def test_without_private_kinds_everybody_sees_everything(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, reading=ReadingRules([PrivateKinds(frozenset())]))
    async with somebody(serving) as one:
        await one.accept(message(4, BOB))
        assert len(await one.request({"kinds": [4]})) == 1
