"""Set reconciliation over real sockets: answers, refusals, bounds, and what is left behind."""

from typing import Any

import pytest
import trio

from relay.policy.reading import PrivateKinds, ReadingRules
from relay.protocol.event import Event
from relay.protocol.limits import Limits
from relay.protocol.negentropy.exchange import Initiator
from relay.protocol.negentropy.vector import vector_of
from relay.session.vectors import ReconciliationLimits
from tests.corpus import Author
from tests.served import Client, client
from tests.session.serving import AUTHOR, NOW, eventually, notes, serve, tasks

Found = tuple[set[str], set[str]]


def item(event: Event) -> bytes:
    return event.created_at.to_bytes(8) + bytes.fromhex(event.id)


def ids(events: list[Event]) -> set[str]:
    return {event.id for event in events}


async def reconcile(
    one: Client, filter_: dict[str, Any], events: list[Event], name: str = "n", frame_size: int = 0
) -> Found:
    """Return what we have and the relay has not, and what it has more."""
    initiator = Initiator(vector_of(map(item, events)), frame_size)
    await one.send(["NEG-OPEN", name, filter_, initiator.begin().hex()])
    while True:
        said = await one.expect("NEG-MSG", name)
        message = initiator.receive(bytes.fromhex(said[2]))
        if message is None:
            break
        await one.send(["NEG-MSG", name, message.hex()])
    await one.send(["NEG-CLOSE", name])
    return {one.hex() for one in initiator.have}, {one.hex() for one in initiator.need}


async def error(one: Client, name: str = "n") -> str:
    reason = (await one.expect("NEG-ERR", name))[2]
    assert isinstance(reason, str)
    return reason


async def test_both_sides_differences_are_found(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    events = notes(300)
    async with client(serving.url) as one:
        await one.accept(*events[:200])
        assert await reconcile(one, {}, events[100:]) == (ids(events[200:]), ids(events[:100]))
        assert await reconcile(one, {"kinds": [1]}, []) == (set(), ids(events[:200]))
        assert await reconcile(one, {"kinds": [7]}, events) == (ids(events), set())
        assert await reconcile(one, {"limit": 10}, []) == (set(), ids(events[190:200]))


async def test_what_was_stored_since_is_in_the_next_one(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    events = notes(120)
    async with client(serving.url) as one:
        for number in range(0, 120, 40):
            await one.accept(*events[number : number + 40])
            for filter_ in ({}, {"kinds": [1]}, {"since": 5}):
                found = await reconcile(one, filter_, [])
                assert found == (set(), ids(events[: number + 40]))
        # one listing for each filter, brought up to date
        assert len(serving.core.vectors._kept) == 3


async def test_what_is_gone_may_be_named_and_what_came_again_is_named_once(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    first, second = notes(2)
    async with client(serving.url) as one:
        await one.accept(first, second)
        assert await reconcile(one, {}, []) == (set(), ids([first, second]))
        deletion = AUTHOR.sign(5, "", [["e", first.id]], NOW)
        await one.accept(deletion)
        _, need = await reconcile(one, {}, [])
        assert {second.id, deletion.id} <= need <= {first.id, second.id, deletion.id}


async def test_an_unknown_version_is_answered_by_ours(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    async with client(serving.url) as one:
        await one.send(["NEG-OPEN", "n", {}, "62aabbccddeeff"])
        assert await one.expect("NEG-MSG") == ["NEG-MSG", "n", "61"]
        await one.send(["NEG-MSG", "n", "6100000200"])
        assert await one.expect("NEG-MSG") == ["NEG-MSG", "n", "6100000200"]


@pytest.mark.parametrize("payload", ["6100", "61000003", "610021" + "00" * 33, "61000002ff"])
async def test_a_malformed_message_ends_it(nursery: trio.Nursery, payload: str) -> None:
    serving = await serve(nursery)
    async with client(serving.url) as one:
        await one.send(["NEG-OPEN", "n", {}, payload])
        assert (await error(one)).startswith("invalid: ")
        await one.send(
            ["NEG-OPEN", "n", {}, "61"],
        )
        await one.expect("NEG-MSG", "n")
        await one.send(["NEG-MSG", "n", payload])
        assert (await error(one)).startswith("invalid: ")
        await one.send(["NEG-MSG", "n", "61"])
        assert (await error(one)).startswith("closed: ")


async def test_an_id_that_is_not_open_is_closed(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    async with client(serving.url) as one:
        await one.subscribe({}, name="n")
        await one.send(["NEG-MSG", "n", "61"])
        assert (await error(one)).startswith("closed: ")
        await one.send(["NEG-CLOSE", "n"])
        assert serving.server.subscriptions == 1
        await one.send(["CLOSE", "n"])
        await one.count({})
        assert serving.server.subscriptions == 0


async def test_an_id_that_is_opened_again_is_another_one(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    events = notes(40)
    async with client(serving.url) as one:
        await one.accept(*events)
        await one.send(["NEG-OPEN", "n", {"kinds": [7]}, "61000000"])
        await one.send(["NEG-OPEN", "n", {}, "6100000200"])
        answer = await one.expect("NEG-MSG", "n")
        # the first may have been answered before it was replaced
        if answer[2] == "61":
            answer = await one.expect("NEG-MSG", "n")
        assert bytes.fromhex(answer[2]) == vector_answer(events)
        assert len(one_connection(serving)._reconciliations) == 1


def vector_answer(events: list[Event]) -> bytes:
    return (
        bytes.fromhex("61000002")
        + bytes([len(events)])
        + vector_of(map(item, events)).ids(0, len(events))
    )


def one_connection(serving: Any) -> Any:
    [connection] = serving.server._connections
    return connection


async def test_a_query_that_is_too_big_is_blocked_with_the_bound(nursery: trio.Nursery) -> None:
    limits = ReconciliationLimits(max_records=50)
    serving = await serve(nursery, reconciliation=limits)
    async with client(serving.url) as one:
        await one.accept(*notes(51))
        for _ in range(2):
            await one.send(["NEG-OPEN", "n", {}, "6100000200"])
            answer = await one.expect("NEG-ERR", "n")
            assert answer[2].startswith("blocked: ")
            assert answer[3:] == [50]
        assert len(await reconcile_all(one, {"limit": 50})) == 50
        await one.send(["NEG-OPEN", "n", {"limit": 51}, "6100000200"])
        assert (await error(one)).startswith("blocked: ")


async def reconcile_all(one: Client, filter_: dict[str, Any]) -> set[str]:
    have, need = await reconcile(one, filter_, [])
    assert have == set()
    return need


async def test_so_many_are_open_on_a_connection_and_no_more(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, reconciliation=ReconciliationLimits(max_open=3))
    async with client(serving.url) as one:
        for name in "abc":
            await one.send(["NEG-OPEN", name, {}, "61"])
            await one.expect("NEG-MSG", name)
        await one.send(["NEG-OPEN", "d", {}, "61"])
        assert (await error(one, "d")).startswith("restricted: ")
        await one.send(["NEG-OPEN", "a", {}, "61"])
        await one.expect("NEG-MSG", "a")
        await one.send(["NEG-CLOSE", "b"])
        await one.send(["NEG-OPEN", "d", {}, "61"])
        await one.expect("NEG-MSG", "d")


async def test_memory_is_bounded_for_one_and_for_all(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, reconciliation=ReconciliationLimits(max_bytes=40_000))
    async with client(serving.url) as one, client(serving.url) as other:
        await one.accept(*notes(400))
        # a list of 400 takes more than a quarter of it
        await one.send(["NEG-OPEN", "n", {}, "61"])
        assert (await error(one)).startswith("rate-limited: ")
        assert len(await reconcile_all(other, {"limit": 100})) == 100
        await eventually(lambda: not serving.core.vectors._used)


async def test_a_silent_peer_is_told_that_it_is_closed(nursery: trio.Nursery) -> None:
    limits = ReconciliationLimits(idle_timeout=0.1)
    serving = await serve(nursery, reconciliation=limits)
    async with client(serving.url) as one:
        await one.send(["NEG-OPEN", "n", {}, "61"])
        await one.expect("NEG-MSG", "n")
        assert (await error(one)).startswith("closed: ")
        await one.send(["NEG-MSG", "n", "61"])
        assert (await error(one)).startswith("closed: ")


async def test_nothing_is_left_of_those_that_were_closed_or_left(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    vectors = serving.core.vectors
    async with client(serving.url) as one:
        await one.accept(*notes(50))
        before = await tasks()
        for name in "abcde":
            await one.send(["NEG-OPEN", name, {}, "6100000200"])
            await one.expect("NEG-MSG", name)
        assert await tasks() == before + 5
        statistics = serving.server.statistics()
        assert statistics.reconciliations == 5
        assert statistics.reconciliation_bytes > 50 * 40
        for name in "abc":
            await one.send(["NEG-CLOSE", name])
        await one.count({})
        assert await tasks() == before + 2
    await serving.until(open_connections=0)
    assert not vectors._used
    # it is kept for the next peer for a while
    assert vectors.size > 0
    vectors.forget(serving.core.steady_clock() + 1_000)
    assert vectors.size == 0


async def test_a_peer_that_vanishes_in_the_midst_leaves_nothing(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    async with client(serving.url) as witness:
        await witness.accept(*notes(200))
        before = await tasks()
        for _ in range(20):
            raw = serving.dial()
            await raw.handshake()
            raw.send(["NEG-OPEN", "n", {}, "6100000200"], ["NEG-OPEN", "m", {}, "61"])
            raw.reset()
        await serving.until(open_connections=1)
        assert await tasks() == before
        assert not serving.core.vectors._used


async def test_it_is_for_the_authenticated_where_everything_is(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, limits=Limits(auth_required=True))
    async with client(serving.url) as one:
        await one.send(["NEG-OPEN", "n", {}, "61"])
        assert (await error(one)).startswith("auth-required: ")
        assert await one.authenticate(AUTHOR, serving.url) == (True, "")
        await one.send(["NEG-OPEN", "n", {}, "61"])
        await one.expect("NEG-MSG", "n")


async def test_private_events_are_listed_to_their_people_only(nursery: trio.Nursery) -> None:
    reading = ReadingRules([PrivateKinds()])
    serving = await serve(nursery, reading=reading)
    alice, bob = Author("alice"), Author("bob")
    public = notes(40)
    private = [bob.sign(4, "psst", [["p", alice.pubkey]], NOW - n) for n in range(3)]
    async with client(serving.url) as one, client(serving.url) as stranger:
        await one.accept(*public, *private)
        assert await reconcile_all(stranger, {}) == ids(public)
        assert await reconcile_all(stranger, {"limit": 41}) == ids(public)
        await stranger.send(["NEG-OPEN", "n", {"kinds": [4]}, "61"])
        assert (await error(stranger)).startswith("auth-required: ")
        assert await one.authenticate(alice, serving.url) == (True, "")
        assert await reconcile_all(one, {}) == ids([*public, *private])
        assert await reconcile_all(one, {"kinds": [4]}) == ids(private)
        # what is stored later: the list is brought up to date
        later = bob.sign(4, "psst", [["p", alice.pubkey]], NOW + 1)
        await one.accept(later)
        assert await reconcile_all(one, {}) == ids([*public, *private, later])
        assert await reconcile_all(stranger, {}) == ids(public)


async def test_a_message_before_the_answer_is_out_of_turn(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    raw = serving.dial()
    await raw.handshake()
    raw.send(["NEG-OPEN", "n", {}, "61"], ["NEG-MSG", "n", "61"])
    async with client(serving.url) as witness:
        await witness.count({})
    await eventually(lambda: len(one_connection(serving)._reconciliations) == 0)
    raw.close()
