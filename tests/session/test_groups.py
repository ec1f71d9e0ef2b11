"""Groups (NIP-29) over real connections, with real signatures: what clients see."""

import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from relay.policy.groups.office import Groups
from relay.policy.groups.settings import GroupSettings
from relay.policy.reading import PrivateKinds, ReadingRules
from relay.policy.records import RecordsAreHidden
from relay.protocol.event import Event, first_value
from relay.protocol.identity import Identity
from relay.session.archive import StoreArchive
from relay.session.committer import LocalCommitter
from relay.session.core import Timing
from relay.store.api import EventReader, EventWriter
from relay.store.memory import MemoryStore
from tests.corpus import Author
from tests.served import Client, client
from tests.session.serving import Serving, eventually, serve
from tests.store.conftest import sqlite_store

RELAY: Final = Identity(b"\x29" * 32)
ANN, BOB, CARL, DORA, OPERATOR = map(Author, ("ann", "bob", "carl", "dora", "operator"))
CODE: Final = ["code", "milk-and-sugar"]
SETTINGS: Final = GroupSettings()
_numbers = itertools.count()


class Staff:
    def is_admin(self, pubkey: str) -> bool:
        return pubkey == OPERATOR.pubkey

    def is_member(self, _pubkey: str) -> bool:
        return False


async def serve_groups(
    nursery: trio.Nursery,
    writer: EventWriter,
    reader: EventReader,
    settings: GroupSettings = SETTINGS,
) -> tuple[Serving, Groups]:
    """Serve a relay that keeps groups in an open store."""
    archive = StoreArchive(reader, lambda: int(time.time()))
    groups = Groups(RELAY.pubkey, settings, Staff(), archive)
    committer = LocalCommitter(writer)
    nursery.start_soon(committer.run)
    serving = await serve(
        nursery,
        reader=reader,
        committer=committer,
        reading=ReadingRules(
            [PrivateKinds(), RecordsAreHidden(RELAY.pubkey, {OPERATOR.pubkey}), groups.reading]
        ),
        identity=RELAY,
        offices=[groups],
        timing=Timing(follow_interval=0.01),
    )
    return serving, groups


async def serve_anew(nursery: trio.Nursery, settings: GroupSettings = SETTINGS) -> Serving:
    store = MemoryStore()
    serving, _ = await serve_groups(nursery, store.writer(), store.reader(), settings)
    return serving


def made(by: Author, kind: int, group_id: str, *tags: Sequence[str]) -> Event:
    """Return a signed event of its own for a group."""
    return by.sign(kind, f"{next(_numbers)}", [["h", group_id], *tags], int(time.time()))


async def ask(one: Client, by: Author, kind: int, group_id: str, *tags: Sequence[str]) -> str:
    """Publish; return nothing when it was accepted, else why not."""
    accepted, reason = await one.publish(made(by, kind, group_id, *tags))
    return "" if accepted else reason


async def document(one: Client, kind: int, group_id: str) -> list[list[str]] | None:
    """Return the tags of the relay's document, if it is shown."""
    found = await one.request({"kinds": [kind], "#d": [group_id], "authors": [RELAY.pubkey]})
    assert len(found) <= 1
    return [list(tag) for tag in found[0].tags[1:]] if found else None


async def members(one: Client, group_id: str) -> list[str]:
    return [tag[1] for tag in await document(one, 39002, group_id) or []]


@asynccontextmanager
async def somebody(serving: Serving, *authors: Author) -> AsyncIterator[Client]:
    async with client(serving.url) as one:
        for author in authors:
            assert await one.authenticate(author, serving.url) == (True, "")
        yield one


async def test_the_life_of_a_group(nursery: trio.Nursery) -> None:
    serving = await serve_anew(nursery)
    async with somebody(serving) as one:
        assert await ask(one, ANN, 9007, "tea") == ""
        assert await document(one, 39001, "tea") == [["p", ANN.pubkey, "admin"]]
        rules = [["name", "Tea"], ["restricted"], ["closed"]]
        assert await ask(one, ANN, 9002, "tea", *rules) == ""
        assert await document(one, 39000, "tea") == rules
        assert (await ask(one, BOB, 9021, "tea")).startswith("restricted: ")
        assert await ask(one, ANN, 9009, "tea", CODE) == ""
        assert await ask(one, BOB, 9021, "tea", CODE) == ""
        assert (await ask(one, BOB, 9021, "tea", CODE)).startswith("duplicate: ")
        assert await members(one, "tea") == [ANN.pubkey, BOB.pubkey]
        chat = made(BOB, 9, "tea")
        await one.accept(chat)
        assert (await ask(one, CARL, 9, "tea")).startswith("restricted: ")
        assert await ask(one, ANN, 9005, "tea", ["e", chat.id]) == ""
        assert await one.request({"ids": [chat.id]}) == []
        accepted, reason = await one.publish(chat)
        assert not accepted, "it is gone for good"
        assert reason.startswith("blocked: ")
        assert await ask(one, BOB, 9022, "tea") == ""
        assert await members(one, "tea") == [ANN.pubkey]
        assert (await ask(one, BOB, 9, "tea")).startswith("restricted: ")
        own = await one.request({"kinds": [9000, 9001], "authors": [RELAY.pubkey]})
        assert {(event.kind, first_value(event, "p")) for event in own} == {
            (9000, BOB.pubkey),
            (9001, BOB.pubkey),
        }
        assert await ask(one, ANN, 9008, "tea") == ""
        left = await one.request({"#h": ["tea"]}, {"#d": ["tea"]})
        assert [event.kind for event in left] == [9008]
    assert serving.journal.errors() == []


async def test_a_group_is_written_to_in_the_same_breath(nursery: trio.Nursery) -> None:
    serving = await serve_anew(nursery)
    events = [
        made(ANN, 9007, "tea", ["restricted"]),
        made(ANN, 9000, "tea", ["p", BOB.pubkey]),
        made(BOB, 9, "tea"),
        made(ANN, 9001, "tea", ["p", BOB.pubkey]),
        made(BOB, 9, "tea"),
    ]
    async with client(serving.url) as one:
        for event in events:
            await one.send(
                ["EVENT", {name: getattr(event, name) for name in event.__struct_fields__}]
            )
        answers = [(await one.expect("OK", event.id))[2] for event in events]
    assert answers == [True, True, True, True, False]


async def test_only_who_has_signed_is_believed(nursery: trio.Nursery) -> None:
    serving = await serve_anew(nursery)
    async with somebody(serving) as one:
        assert await ask(one, ANN, 9007, "tea") == ""
        forged = made(DORA, 9000, "tea", ["p", DORA.pubkey, "admin"])
        fields = {name: getattr(forged, name) for name in forged.__struct_fields__}
        await one.send(["EVENT", {**fields, "pubkey": ANN.pubkey}])
        assert (await one.expect("OK"))[2] is False
        for kind in range(39000, 39006):
            assert (await ask(one, ANN, kind, "tea", ["d", "tea"])).startswith("restricted: ")
        assert await members(one, "tea") == [ANN.pubkey]


async def test_subscribers_are_told_what_becomes_of_a_group(nursery: trio.Nursery) -> None:
    serving = await serve_anew(nursery)
    async with somebody(serving) as one, somebody(serving) as listener:
        name = await listener.subscribe({"kinds": [9000, 9021, 39000, 39002]})
        assert await ask(one, ANN, 9007, "tea") == ""
        assert await ask(one, BOB, 9021, "tea") == ""
        seen = [await listener.event(name) for _ in range(5)]
    assert [event.kind for event in seen] == [39000, 39002, 9021, 9000, 39002]
    assert [first_value(event, "d") for event in seen if event.kind >= 39000] == ["tea"] * 3
    assert seen[1].created_at < seen[4].created_at, "a newer version, even within one second"


async def test_a_private_group_is_shown_to_its_members_alone(nursery: trio.Nursery) -> None:
    serving = await serve_anew(nursery)
    asked: dict[str, Any] = {"kinds": [9]}
    async with (
        somebody(serving) as stranger,
        somebody(serving, DORA) as dora,
        somebody(serving, BOB) as bob,
    ):
        assert await ask(bob, ANN, 9007, "tea", ["private"]) == ""
        assert await ask(bob, ANN, 9000, "tea", ["p", BOB.pubkey]) == ""
        names = {one: await one.subscribe(asked) for one in (stranger, dora, bob)}
        chat, public = made(BOB, 9, "tea"), made(BOB, 9, "elsewhere")
        await bob.accept(chat, public)
        assert (await bob.event(names[bob])).id == chat.id
        for one in (stranger, dora):
            assert (await one.event(names[one])).id == public.id, "live"
            assert [event.id for event in await one.request(asked)] == [public.id], "stored"
            assert await one.request({"ids": [chat.id]}) == []
            assert await one.count(asked) == 1, "counted"
        assert await bob.count(asked) == 2
        assert await refusal(stranger, {"#h": ["tea"]}) == "auth-required"
        assert await refusal(dora, {"#h": ["tea"]}) == "restricted"
        # whoever joins sees it from then on, and what was said before
        assert await ask(dora, DORA, 9021, "tea") == ""
        assert len(await dora.request(asked)) == 2
        later = made(BOB, 9, "tea")
        await bob.accept(later)
        assert (await dora.event(names[dora])).id == later.id
        assert await ask(bob, ANN, 9001, "tea", ["p", DORA.pubkey]) == ""
        assert [event.id for event in await dora.request(asked)] == [public.id]
        assert await stranger.authenticate(BOB, serving.url) == (True, "")
        assert len(await stranger.request(asked)) == 3, "AUTH counts from then on"


async def refusal(one: Client, *filters: dict[str, Any]) -> str:
    await one.send(["REQ", "refused", *filters])
    return str((await one.expect("CLOSED", "refused"))[2]).partition(": ")[0]


@pytest.mark.parametrize("elsewhere", [0, 1])
async def test_a_hidden_group_is_never_shown_to_others(
    nursery: trio.Nursery, elsewhere: int
) -> None:
    """Not even in the moment in which it comes into being, or becomes hidden; not by another
    process, either."""
    store = MemoryStore()
    servings = [(await serve_groups(nursery, store.writer(), store.reader()))[0] for _ in range(2)]
    documents: dict[str, Any] = {"kinds": list(range(39000, 39006))}
    async with (
        somebody(servings[0], ANN) as ann,
        somebody(servings[elsewhere], DORA) as dora,
    ):
        name, other = await ann.subscribe(documents), await dora.subscribe(documents)
        assert await ask(ann, ANN, 9007, "tea", ["hidden"]) == ""
        assert [(await ann.event(name)).kind for _ in range(4)] == [39000, 39001, 39002, 39003]
        assert await ask(ann, ANN, 9007, "coffee") == ""
        assert [(await dora.event(other)).tags[0] for _ in range(4)] == [("d", "coffee")] * 4
        hiding = [["name", "secret"], ["hidden"]]
        assert await ask(ann, ANN, 9002, "coffee", *hiding) == ""
        assert await ask(ann, ANN, 9007, "water") == ""
        assert [(await dora.event(other)).tags[0] for _ in range(4)] == [("d", "water")] * 4
        assert len(await dora.request(documents)) == 4
        assert await dora.count(documents) == 4
        assert len(await ann.request(documents)) == 12


async def test_invite_codes_are_shown_to_admins_alone(nursery: trio.Nursery) -> None:
    serving = await serve_anew(nursery)
    asked: dict[str, Any] = {"#h": ["tea"], "kinds": [9009, 9021]}
    async with somebody(serving, ANN) as ann, somebody(serving, BOB) as bob:
        assert await ask(ann, ANN, 9007, "tea", ["closed"]) == ""
        assert await ask(ann, ANN, 9009, "tea", CODE) == ""
        assert await ask(ann, BOB, 9021, "tea", CODE) == ""
        assert await ask(ann, DORA, 9021, "tea", CODE) == ""
        assert len(await ann.request(asked)) == 3
        assert [event.pubkey for event in await bob.request(asked)] == [BOB.pubkey]
        for one in (ann, bob):
            assert await one.request({"kinds": [30078]}) == []


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_groups_are_there_again_after_a_restart(
    nursery: trio.Nursery, store: str, tmp_path: Path
) -> None:
    opened = sqlite_store(tmp_path) if store == "sqlite" else None
    memory = MemoryStore()

    async def serve_again() -> Serving:
        writer = opened.writer if opened else memory.writer()
        reader = opened.reader if opened else memory.reader()
        return (await serve_groups(nursery, writer, reader))[0]

    first = await serve_again()
    async with somebody(first) as one:
        assert await ask(one, ANN, 9007, "tea", ["closed"], ["restricted"]) == ""
        assert await ask(one, ANN, 9007, "gone") == ""
        assert await ask(one, ANN, 9000, "tea", ["p", BOB.pubkey, "moderator"]) == ""
        assert await ask(one, ANN, 9009, "tea", CODE) == ""
        assert await ask(one, ANN, 9010, "tea", ["e", "ab" * 32]) == ""
        assert await ask(one, ANN, 9008, "gone") == ""
    first.server.stop()
    await eventually(lambda: first.core.draining)
    second = await serve_again()
    async with somebody(second) as one:
        assert await document(one, 39005, "tea") == [["e", "ab" * 32]]
        assert await ask(one, BOB, 9, "tea") == ""
        assert (await ask(one, CARL, 9, "tea")).startswith("restricted: ")
        assert (await ask(one, CARL, 9021, "tea")).startswith("restricted: ")
        assert await ask(one, CARL, 9021, "tea", CODE) == ""
        assert await members(one, "tea") == [ANN.pubkey, BOB.pubkey, CARL.pubkey]
        assert await ask(one, BOB, 9001, "tea", ["p", CARL.pubkey]) == ""
        assert (await ask(one, BOB, 9002, "tea", ["name", "x"])).startswith("restricted: ")
        assert (await ask(one, ANN, 9021, "gone")).startswith("invalid: there is no group")
        assert (await ask(one, CARL, 9007, "gone")).startswith("restricted: ")
        assert await ask(one, OPERATOR, 9007, "gone") == "", "over what was there before"
        assert await members(one, "gone") == [OPERATOR.pubkey]
    if opened:
        second.server.stop()
        await trio.sleep(0.05)
        opened.close()


async def test_two_relays_of_one_store_agree_on_every_list(nursery: trio.Nursery) -> None:
    """Whoever was slower is asked again, with the other's change before its eyes."""
    store = MemoryStore()
    servings = [(await serve_groups(nursery, store.writer(), store.reader()))[0] for _ in range(2)]
    people = [Author(f"guest {number}") for number in range(12)]

    async def join(serving: Serving, guests: list[Author]) -> None:
        async with somebody(serving) as one:
            for guest in guests:
                assert await ask(one, guest, 9021, "tea") == ""

    async with somebody(servings[0]) as one:
        assert await ask(one, ANN, 9007, "tea") == ""
    async with trio.open_nursery() as both:
        both.start_soon(join, servings[0], people[::2])
        both.start_soon(join, servings[1], people[1::2])
    async with somebody(servings[1]) as one:
        joined = await members(one, "tea")
    assert len(joined) == len(set(joined)) == 13
    assert set(joined) == {ANN.pubkey, *[guest.pubkey for guest in people]}


async def test_two_admins_who_remove_each_other_leave_one(nursery: trio.Nursery) -> None:
    store = MemoryStore()
    servings = [(await serve_groups(nursery, store.writer(), store.reader()))[0] for _ in range(2)]
    outcomes: dict[Author, str] = {}

    async def strike(serving: Serving, by: Author, other: Author) -> None:
        async with somebody(serving) as one:
            outcomes[by] = await ask(one, by, 9001, "tea", ["p", other.pubkey])

    async with somebody(servings[0]) as one:
        assert await ask(one, ANN, 9007, "tea") == ""
        assert await ask(one, ANN, 9000, "tea", ["p", BOB.pubkey, "admin"]) == ""
    async with trio.open_nursery() as both:
        both.start_soon(strike, servings[0], ANN, BOB)
        both.start_soon(strike, servings[1], BOB, ANN)
    accepted = [by for by, reason in outcomes.items() if not reason]
    assert len(accepted) == 1
    async with somebody(servings[0]) as one:
        assert await members(one, "tea") == [accepted[0].pubkey]


async def test_what_its_author_has_taken_back_has_no_effect_when_sent_again(
    nursery: trio.Nursery,
) -> None:
    serving = await serve_anew(nursery)
    async with somebody(serving) as one:
        assert await ask(one, ANN, 9007, "tea") == ""
        joining = made(BOB, 9021, "tea")
        await one.accept(joining, BOB.sign(5, "", [["e", joining.id]], int(time.time())))
        assert await ask(one, BOB, 9022, "tea") == ""
        accepted, reason = await one.publish(joining)
        assert not accepted
        assert reason.startswith("blocked: ")
        assert await members(one, "tea") == [ANN.pubkey]
