"""The steward: the relay acts by itself, atomically, in order, and also when others are quicker."""

import json
from typing import Any

import msgspec
import pytest
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from relay.errors import StoreUnavailable
from relay.policy.ruling import Draft, Ruling
from relay.policy.verdict import Client, Rejection, Verdict
from relay.protocol.event import Event, Record, first_value, record
from relay.protocol.filters import Filter
from relay.protocol.identity import Identity
from relay.session.committer import LocalCommitter
from relay.session.companion import Ticket
from relay.store.api import Terms
from relay.store.commit_protocol import Answer
from relay.store.memory import MemoryStore
from tests.corpus import Author
from tests.session.serving import AUTHOR, NOW, eventually, serve, tasks

RELAY = Identity(b"\x07" * 32)
JOIN, NOTICE, LIST = 9021, 9000, 39002
ANOTHER = Author("another")


class Club:
    """An office of the plainest sort: whoever asks is put on one list, unless the name is bad."""

    kinds = frozenset([JOIN])
    own_kinds = frozenset([LIST])
    noted_kinds = frozenset[int]()
    checked_kinds = frozenset([9])

    def __init__(self) -> None:
        self.members: list[str] = []
        self.asked = 0

    def rule(self, event: Event, _client: Client, _now: int) -> Ruling:
        self.asked += 1
        name = event.content
        if name == "fault":
            raise ZeroDivisionError
        if name.startswith("erase "):
            return Ruling(accepted=True, erase=(Filter(kinds=frozenset([int(name[6:])])),))
        if name.startswith("bury "):
            return Ruling(accepted=True, bury=(name[5:],))
        if name in self.members:
            return Ruling(accepted=False, reason="duplicate: you are a member")
        if name == "bad":
            return Ruling(accepted=False, reason="restricted: not you")
        members = [*self.members, name]
        drafts = (
            Draft(LIST, (("d", "club"), *(("member", one) for one in members))),
            Draft(NOTICE, (("p", name),), f"{name} came"),
        )
        return Ruling(accepted=True, reason="info: welcome", drafts=drafts)

    def note(self, event: Event) -> None:
        self.members = [tag[1] for tag in event.tags if tag[0] == "member"]

    def check(self, event: Event, _client: Client, _now: int) -> Verdict:
        if event.kind != 9 or first_value(event, "as") in self.members:
            return None
        return Rejection("restricted: members only")


async def say(client: WebSocketConnection, *events: Event) -> list[list[Any]]:
    """Publish events at once; return their OKs, in order."""
    for event in events:
        await client.send_message(json.dumps(["EVENT", as_dict(event)]))
    answers: list[list[Any]] = []
    while len(answers) < len(events):
        message = json.loads(await client.get_message())
        if message[0] == "OK":
            answers.append(message[1:])
    return answers


def as_dict(event: Event) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def joining(name: str, author: Author = AUTHOR) -> Event:
    return author.sign(JOIN, name, [], NOW)


def stored(store: MemoryStore, *kinds: int) -> list[Event]:
    events = [stored.record.event for stored in store.snapshot()]
    return [event for event in events if event.kind in kinds]


async def test_an_event_and_what_comes_of_it_are_stored_and_published_together(
    nursery: trio.Nursery,
) -> None:
    store = MemoryStore()
    serving = await serve(nursery, store=store, identity=RELAY, offices=[Club()])
    event = joining("ann")
    async with open_websocket_url(serving.url) as listener, open_websocket_url(serving.url) as one:
        await listener.send_message('["REQ","all",{}]')
        while json.loads(await listener.get_message())[0] != "EOSE":
            pass
        assert await say(one, event) == [[event.id, True, "info: welcome"]]
        got = [json.loads(await listener.get_message())[2] for _ in range(3)]
    assert [one["kind"] for one in got] == [JOIN, LIST, NOTICE]
    assert [one["pubkey"] for one in got] == [AUTHOR.pubkey, RELAY.pubkey, RELAY.pubkey]
    assert got[1]["tags"] == [["d", "club"], ["member", "ann"]]
    assert len(stored(store, JOIN, LIST, NOTICE)) == 3


async def test_what_is_refused_leaves_nothing(nursery: trio.Nursery) -> None:
    store = MemoryStore()
    serving = await serve(nursery, store=store, identity=RELAY, offices=[Club()])
    async with open_websocket_url(serving.url) as one:
        event = joining("bad")
        assert await say(one, event) == [[event.id, False, "restricted: not you"]]
        true = ANOTHER.sign(JOIN, "ann", [], NOW)
        forged = msgspec.structs.replace(true, sig="0" * 128)
        [[_, accepted, reason]] = await say(one, forged)
        assert (accepted, reason) == (False, "invalid: the signature does not fit the event")
    assert store.head == 0


async def test_what_follows_on_the_connection_rests_on_it(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, identity=RELAY, offices=[Club()])
    note = AUTHOR.sign(9, "I am in", [["as", "ann"]], NOW)
    async with open_websocket_url(serving.url) as one:
        answers = await say(one, note)
        assert answers == [[note.id, False, "restricted: members only"]]
        answers = await say(one, joining("ann"), note, joining("bob"), joining("ann", ANOTHER))
    assert [accepted for _, accepted, _ in answers] == [True, True, True, False]
    assert [reason for _, _, reason in answers][1:] == [
        "",
        "info: welcome",
        "duplicate: you are a member",
    ]


async def test_it_waits_for_what_came_before_on_the_connection(nursery: trio.Nursery) -> None:
    store = MemoryStore()
    serving = await serve(nursery, store=store, identity=RELAY, offices=[Club()])
    notes = [AUTHOR.sign(1, f"note {number}", [], NOW) for number in range(50)]
    async with open_websocket_url(serving.url) as one:
        answers = await say(one, *notes, joining("erase 1"))
    assert all(accepted for _, accepted, _ in answers)
    assert stored(store, 1) == []


async def test_the_same_event_again_does_nothing(nursery: trio.Nursery) -> None:
    club = Club()
    serving = await serve(nursery, identity=RELAY, offices=[club])
    event = joining("ann")
    async with open_websocket_url(serving.url) as one:
        await say(one, event)
        [[_, accepted, reason]] = await say(one, event)
    assert accepted
    assert reason.startswith("duplicate:")
    assert club.asked == 1


async def test_each_version_is_later_than_the_one_before(nursery: trio.Nursery) -> None:
    store = MemoryStore()
    serving = await serve(nursery, store=store, identity=RELAY, offices=[Club()])
    names = [f"member {number}" for number in range(20)]
    async with open_websocket_url(serving.url) as one:
        await say(one, *map(joining, names))
    [members] = stored(store, LIST)
    assert [tag[1] for tag in members.tags[1:]] == names


async def test_two_processes_at_the_same_list_lose_nothing(nursery: trio.Nursery) -> None:
    # two servers on one store are what two workers are: each with a view and a log of its own
    store = MemoryStore()
    clubs = [Club(), Club()]
    servings = [await serve(nursery, store=store, identity=RELAY, offices=[club]) for club in clubs]
    names = [f"member {number}" for number in range(40)]

    async def enter(url: str, names: list[str]) -> None:
        async with open_websocket_url(url) as one:
            for name in names:
                [[_, accepted, reason]] = await say(one, joining(name))
                assert accepted, reason

    async with trio.open_nursery() as both:
        both.start_soon(enter, servings[0].url, names[::2])
        both.start_soon(enter, servings[1].url, names[1::2])
    [members] = stored(store, LIST)
    assert sorted(tag[1] for tag in members.tags[1:]) == sorted(names)
    await eventually(lambda: all(sorted(club.members) == sorted(names) for club in clubs))


async def test_another_process_was_quicker(nursery: trio.Nursery) -> None:
    store = MemoryStore()
    club = Club()
    quicker = LocalCommitter(store.writer())
    others = iter(["bob", "cyd"])

    class Late(LocalCommitter):
        """Commits when somebody else has already."""

        async def begin(self, records: Any, now: int, terms: Terms | None = None) -> Ticket[Answer]:
            name = next(others, None)
            if name is not None and terms is not None:
                members = [*club.members, name]
                tags = [["d", "club"], *(["member", one] for one in members)]
                event = RELAY.sign(LIST, NOW + 5 + len(members), tags)
                await quicker.begin([record_of(event)], now)
            return await super().begin(records, now, terms)

    serving = await serve(
        nursery, store=store, committer=Late(store.writer()), identity=RELAY, offices=[club]
    )
    async with open_websocket_url(serving.url) as one:
        [[_, accepted, _]] = await say(one, joining("ann"))
    assert accepted
    assert club.members == ["bob", "cyd", "ann"]
    assert club.asked == 3


def record_of(event: Event) -> Record:
    return record(event)


async def test_the_state_is_found_again_at_the_start(nursery: trio.Nursery) -> None:
    store = MemoryStore()
    first = await serve(nursery, store=store, identity=RELAY, offices=[Club()])
    async with open_websocket_url(first.url) as one:
        await say(one, joining("ann"), joining("bob"))
    first.server.stop()
    club = Club()
    await serve(nursery, store=store, identity=RELAY, offices=[club])
    assert club.members == ["ann", "bob"]


async def test_a_list_that_was_removed_can_begin_anew(nursery: trio.Nursery) -> None:
    store = MemoryStore()
    club = Club()
    serving = await serve(nursery, store=store, identity=RELAY, offices=[club])
    async with open_websocket_url(serving.url) as one:
        await say(one, joining("ann"), joining(f"erase {LIST}"))
        assert stored(store, LIST) == []
        club.members.clear()
        [[_, accepted, reason]] = await say(one, joining("bob"))
    assert accepted, reason
    [members] = stored(store, LIST)
    assert members.tags[1:] == (("member", "bob"),)


async def test_what_it_buries_does_not_come_back(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, identity=RELAY, offices=[Club()])
    note = AUTHOR.sign(1, "gone", [], NOW)
    async with open_websocket_url(serving.url) as one:
        await say(one, note)
        answers = await say(one, joining(f"bury {note.id}"), note)
    assert [accepted for _, accepted, _ in answers] == [True, False]
    assert answers[1][2].startswith("blocked:")


async def test_nobody_else_speaks_for_the_relay(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, identity=RELAY, offices=[Club()])
    profile = RELAY.sign(0, NOW, [], "{}")
    members = RELAY.sign(LIST, NOW, [["d", "club"]], "")
    async with open_websocket_url(serving.url) as one:
        challenge = json.loads(await one.get_message())[1]
        answers = await say(one, profile, members)
        assert [answer[1] for answer in answers] == [False, False]
        assert all(answer[2].startswith("blocked:") for answer in answers)
        proof = RELAY.sign(22242, NOW, [["relay", serving.url], ["challenge", challenge]])
        await one.send_message(json.dumps(["AUTH", as_dict(proof)]))
        assert json.loads(await one.get_message())[:3] == ["OK", proof.id, True]
        answers = await say(one, profile, members)
        assert {answer[0]: answer[1] for answer in answers} == {
            profile.id: True,
            members.id: False,
        }


async def test_a_failing_store_and_a_fault_are_answered_and_the_next_is_served(
    nursery: trio.Nursery,
) -> None:
    store = MemoryStore()
    failing = True

    class Failing(LocalCommitter):
        async def begin(self, records: Any, now: int, terms: Terms | None = None) -> Ticket[Answer]:
            if failing:
                raise StoreUnavailable("the disk is full")
            return await super().begin(records, now, terms)

    committer = Failing(store.writer())
    serving = await serve(
        nursery, store=store, committer=committer, identity=RELAY, offices=[Club()]
    )
    async with open_websocket_url(serving.url) as one:
        [[_, accepted, reason]] = await say(one, joining("ann"))
        assert (accepted, reason) == (False, "error: the disk is full")
        failing = False
        [[_, accepted, reason]] = await say(one, joining("fault"))
        assert (accepted, reason) == (False, "error: this request failed")
        [[_, accepted, _]] = await say(one, joining("ann"))
        assert accepted
    assert [line[1] for line in serving.journal.errors()] == [
        "a ruling was not carried out",
        "a ruling failed",
    ]


@pytest.mark.parametrize("way", ["reset", "close"])
async def test_who_leaves_meanwhile_leaves_nothing_behind(nursery: trio.Nursery, way: str) -> None:
    store = MemoryStore()
    goes_on = trio.Event()

    class Slow(LocalCommitter):
        async def begin(self, records: Any, now: int, terms: Terms | None = None) -> Ticket[Answer]:
            await goes_on.wait()
            return await super().begin(records, now, terms)

    serving = await serve(
        nursery, store=store, committer=Slow(store.writer()), identity=RELAY, offices=[Club()]
    )
    before = await tasks()
    clients = [serving.dial() for _ in range(5)]
    for number, client in enumerate(clients):
        await client.handshake()
        client.publish(joining(f"member {number}"))
    await serving.until(open_connections=5)
    await tasks()
    for client in clients:
        client.reset() if way == "reset" else client.close()
    goes_on.set()
    # the first was taken up before they left
    await eventually(lambda: bool(stored(store, LIST)))
    await serving.until(open_connections=0)
    assert await tasks() == before


async def test_an_administrator_has_it_act_as_well(nursery: trio.Nursery) -> None:
    store = MemoryStore()
    serving = await serve(nursery, store=store, identity=RELAY, offices=[Club()])
    assert serving.server.steward is not None
    draft = Draft(LIST, (("d", "club"), ("member", "ann")))
    ruling = Ruling(accepted=True, reason="done", drafts=(draft,))
    assert await serving.server.steward.perform(lambda: ruling) == (True, "done")
    assert len(stored(store, LIST)) == 1


async def test_what_was_let_in_before_a_removal_and_stored_behind_it_goes_as_well(
    nursery: trio.Nursery,
) -> None:
    store = MemoryStore()
    removal_begun, note_begun = trio.Event(), trio.Event()

    class Crossing(LocalCommitter):
        """Commits the note after the removal, though it was judged before."""

        async def begin(self, records: Any, now: int, terms: Terms | None = None) -> Ticket[Answer]:
            if terms is None:
                note_begun.set()
                await removal_begun.wait()
            else:
                await note_begun.wait()
                ticket = await super().begin(records, now, terms)
                removal_begun.set()
                return ticket
            return await super().begin(records, now, terms)

    committer = Crossing(store.writer())
    serving = await serve(
        nursery, store=store, committer=committer, identity=RELAY, offices=[Club()]
    )
    note = ANOTHER.sign(1, "late", [], NOW)
    async with (
        open_websocket_url(serving.url) as one,
        open_websocket_url(serving.url) as other,
        trio.open_nursery() as both,
    ):
        both.start_soon(say, other, note)
        with trio.fail_after(10):
            await note_begun.wait()
        both.start_soon(say, one, joining("erase 1"))
    assert stored(store, 1) == []
