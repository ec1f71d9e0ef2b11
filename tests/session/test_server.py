"""The server over real sockets: limits, scopes, ends, and the drain."""

import json
import socket
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from relay.errors import StoreUnavailable
from relay.policy.verdict import Client, Policy, Verdict
from relay.protocol.event import Event, Record
from relay.protocol.limits import Limits
from relay.session.companion import Ticket
from relay.session.core import Capacity, Timing
from relay.session.server import Admission
from relay.store.api import Committed, Terms
from relay.store.commit_protocol import Answer
from relay.store.memory import MemoryStore
from tests.corpus import Author, event_message
from tests.served import client
from tests.session.serving import AUTHOR, NOW, RawClient, notes, serve, tasks


class HeldCommitter:
    """A store whose commits last until the test lets them go, or fail when it says so."""

    def __init__(self, store: MemoryStore) -> None:
        self._writer = store.writer()
        self.go = trio.Event()
        self.fails = False
        self.batches: list[int] = []
        self._answers: dict[Ticket[Answer], list[Committed] | StoreUnavailable] = {}

    async def begin(
        self, records: Sequence[Record], now: int, terms: Terms | None = None
    ) -> Ticket[Answer]:
        ticket = Ticket[Answer]()
        self.batches.append(len(records))
        self._answers[ticket] = (
            StoreUnavailable("the disk is full")
            if self.fails
            else self._writer.commit(records, now, terms)
        )
        return ticket

    async def finish(self, ticket: Ticket[Answer]) -> list[Committed]:
        await self.go.wait()
        answer = self._answers.pop(ticket)
        if isinstance(answer, StoreUnavailable):
            raise answer
        return answer

    async def sweep(self, now: int, max_events: int) -> int:
        return self._writer.sweep(now, max_events)

    async def index(self, position: int) -> None:
        """Do nothing: a store in memory has no index."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()


async def test_publish_and_subscribe(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    old, new = notes(4)[:2], notes(4)[2:]
    async with client(serving.url) as reader, client(serving.url) as writer:
        await writer.accept(*old)
        live = await reader.subscribe({"kinds": [1]})
        await writer.accept(*new)
        assert [(await reader.event(live)).id for _ in range(4)] == [
            old[1].id,
            old[0].id,
            new[0].id,
            new[1].id,
        ]
        assert await reader.count({"kinds": [1]}) == 4
        await reader.nothing(0.1)


async def test_p2_no_ok_before_the_commit(nursery: trio.Nursery) -> None:
    store = MemoryStore()
    committer = HeldCommitter(store)
    serving = await serve(nursery, store=store, committer=committer)
    (note,) = notes(1)
    async with client(serving.url) as reader, client(serving.url) as writer:
        await writer.expect("AUTH")
        live = await reader.subscribe({"kinds": [7]})
        await writer.send(["EVENT", json.loads(serving_json(note))])
        await writer.nothing(0.2)
        committer.go.set()
        await writer.expect("OK", note.id, True)
        assert live


def serving_json(event: Event) -> str:
    return json.dumps({name: getattr(event, name) for name in event.__struct_fields__})


async def test_what_comes_while_the_store_is_busy_shares_a_commit(nursery: trio.Nursery) -> None:
    store = MemoryStore()
    committer = HeldCommitter(store)
    serving = await serve(nursery, store=store, committer=committer)
    events = notes(12)
    async with client(serving.url) as one:
        for event in events:
            await one.send(event_message(event))
            await trio.testing.wait_all_tasks_blocked(0.01)
        under_way = len(committer.batches)
        assert committer.batches == [1] * under_way
        assert under_way < 6
        committer.go.set()
        for event in events:
            assert (await one.expect("OK", event.id))[2:] == [True, ""]
    assert sum(committer.batches) == 12
    assert len(committer.batches) == under_way + 1


async def test_a_store_that_fails_refuses_and_the_relay_goes_on(nursery: trio.Nursery) -> None:
    store = MemoryStore()
    committer = HeldCommitter(store)
    committer.go.set()
    serving = await serve(nursery, store=store, committer=committer)
    first, second = notes(2)
    async with client(serving.url) as writer:
        committer.fails = True
        assert await writer.publish(first) == (False, "error: the disk is full")
        committer.fails = False
        await writer.accept(first, second)


async def test_duplicates_and_forgeries_are_told_apart(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    (note,) = notes(1)
    async with client(serving.url) as writer:
        await writer.accept(note)
        accepted, reason = await writer.publish(note)
        assert accepted
        assert reason.startswith("duplicate: ")
        forged = msgspec.structs.replace(note, sig="0" * 128)
        accepted, reason = await writer.publish(forged)
        assert (accepted, reason.split(":")[0]) == (True, "duplicate")
        unknown = Event(note.id, note.pubkey, NOW, 1, (), "other", note.sig)
        accepted, reason = await writer.publish(unknown)
        assert (accepted, reason.split(":")[0]) == (False, "invalid")


async def test_what_was_deleted_is_refused_even_right_after_it_was_stored(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    (note,) = notes(1)
    async with client(serving.url) as writer:
        await writer.accept(note, AUTHOR.sign(5, "", [["e", note.id]], NOW))
        accepted, reason = await writer.publish(note)
        assert not accepted
        assert reason.startswith("blocked: ")


async def test_ephemeral_events_reach_subscriptions_and_are_not_stored(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    (event,) = notes(1, kind=20_001)
    async with client(serving.url) as reader, client(serving.url) as writer:
        live = await reader.subscribe({"kinds": [20_001]})
        await writer.accept(event)
        assert (await reader.event(live)).id == event.id
        assert await writer.request({"kinds": [20_001]}) == []
        assert await writer.count({}) == 0


async def test_an_ephemeral_event_that_is_sent_twice_is_delivered_once(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    (event,) = notes(1, kind=20_001)
    async with client(serving.url) as reader, client(serving.url) as writer:
        live = await reader.subscribe({"kinds": [20_001]})
        await writer.send(["EVENT", json.loads(serving_json(event))])
        await writer.send(["EVENT", json.loads(serving_json(event))])
        await writer.expect("OK", event.id, True, "")
        assert (await writer.expect("OK", event.id, True))[3].startswith("duplicate: ")
        await writer.accept(event)
        assert (await reader.event(live)).id == event.id
        await reader.nothing(0.1)


async def test_limit_0_is_eose_at_once_and_a_live_subscription(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    first, second = notes(2)
    async with client(serving.url) as one:
        await one.accept(first)
        live = await one.subscribe({"limit": 0})
        await one.accept(second)
        assert (await one.event(live)).id == second.id


async def test_the_eose_hint_says_whether_more_is_stored(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    async with client(serving.url) as one:
        await one.accept(*notes(3))
        await one.send(["REQ", "all", {"limit": 3}])
        assert await one.expect("EOSE", "all") == ["EOSE", "all", ["finish"]]
        await one.send(["REQ", "some", {"limit": 2}])
        assert await one.expect("EOSE", "some") == ["EOSE", "some", ["more"]]


async def test_p1_a_replaced_subscription_is_silent_once_its_successor_speaks(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery, capacity=Capacity(page_events=10))
    many = notes(300)
    async with client(serving.url) as one:
        await one.accept(*many)
        await one.send(["REQ", "s", {"kinds": [1]}])
        await one.send(["REQ", "s", {"kinds": [7]}])
        reaction = AUTHOR.sign(7, "+", [], NOW)
        # the old one may have got some of its events out before it was replaced
        eose = 0
        while not eose:
            message = await one.receive()
            eose += message[:2] == ["EOSE", "s"]
        await one.accept(reaction, AUTHOR.sign(1, "to the old one", [], NOW))
        assert (await one.event("s")).id == reaction.id
        await one.nothing(0.2)
    await serving.until(open_connections=0, subscriptions=0)


async def test_p1_close_ends_the_subscription_and_frees_its_task(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    async with client(serving.url) as one:
        await one.subscribe({}, name="warm-up")
        await one.send(["CLOSE", "warm-up"])
        await serving.until(subscriptions=0)
        before = await tasks()
        for number in range(50):
            await one.subscribe({"kinds": [1000 + number]}, name=str(number))
        assert serving.server.subscriptions == 50
        assert await tasks() > before
        for number in range(50):
            await one.send(["CLOSE", str(number)])
        await serving.until(subscriptions=0)
        assert await tasks() == before
        await one.accept(*notes(1))
        await one.nothing(0.1)


async def test_subscription_ids_belong_to_their_connection(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    async with client(serving.url) as one, client(serving.url) as two:
        await one.subscribe({"kinds": [1]}, name="same")
        await two.subscribe({"kinds": [7]}, name="same")
        await two.send(["CLOSE", "same"])
        await serving.until(subscriptions=1)
        (note,) = notes(1)
        await two.accept(note)
        assert (await one.event("same")).id == note.id


async def test_a_second_pubkey_authenticates_on_the_same_connection(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    members = [Author("member one"), Author("member two")]
    async with client(serving.url) as one:
        challenge = (await one.expect("AUTH"))[1]
        for member in members:
            tags = [["relay", serving.url], ["challenge", challenge]]
            proof = member.sign(22242, "", tags, NOW)
            await one.send(["AUTH", json.loads(serving_json(proof))])
            await one.expect("OK", proof.id, True)
        for member in members:
            await one.accept(member.sign(1, "members only", [["-"]], NOW))
        stranger = Author("stranger").sign(1, "mine", [["-"]], NOW)
        accepted, reason = await one.publish(stranger)
        assert not accepted
        assert reason.startswith("restricted: ")


async def test_a_binary_message_is_answered_and_harmless(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    async with client(serving.url) as one:
        await one.connection.send_message(b'["REQ","s",{}]')
        notice = await one.expect("NOTICE")
        assert notice[1].startswith("invalid: binary")
        await one.subscribe({})


async def test_a_message_over_the_limit_in_bytes_ends_the_connection_with_1009(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery, limits=Limits(max_message_length=2000))
    async with client(serving.url) as one:
        fits = "é" * 900
        await one.send(json.dumps(["NOTHING", fits], ensure_ascii=False))
        await one.expect("NOTICE")
        await one.send(json.dumps(["NOTHING", "é" * 1000], ensure_ascii=False))
        assert (await one.closed())[0] == 1009
    await serving.until(open_connections=0)


async def test_the_limit_of_connections_refuses_with_503(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, admission=Admission(max_connections=2))
    async with client(serving.url) as one, client(serving.url):
        await one.subscribe({})
        with socket.create_connection(("127.0.0.1", serving.port)) as third:
            third.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await trio.lowlevel.wait_readable(third)
            assert third.recv(1000).startswith(b"HTTP/1.1 503 ")
        await one.subscribe({})


async def test_loopback_has_no_limit_of_its_own(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, admission=Admission(max_connections_per_address=1))
    async with client(serving.url) as one, client(serving.url) as two:
        await one.subscribe({})
        await two.subscribe({})


async def test_p6_a_fault_in_a_policy_ends_that_connection_only(nursery: trio.Nursery) -> None:
    def faulty(event: Event, _client: Client, _now: int) -> Verdict:
        if event.content == "boom":
            raise RuntimeError("boom")
        return None

    serving = await serve(nursery, policy=Policy(event_checks=(faulty,)))
    async with client(serving.url) as good, client(serving.url) as bad:
        live = await good.subscribe({})
        await bad.send(["EVENT", json.loads(serving_json(AUTHOR.sign(1, "boom", [], NOW)))])
        await serving.until(open_connections=1)
        (note,) = notes(1)
        await good.accept(note)
        assert (await good.event(live)).id == note.id
    assert serving.core.counters.faults == 1
    assert [line[1] for line in serving.journal.errors()] == ["connection failed"]


async def test_a_vanished_peer_is_noticed_by_its_silence(nursery: trio.Nursery) -> None:
    timing = Timing(ping_interval=0.2, pong_timeout=1.0)
    serving = await serve(nursery, timing=timing)
    async with client(serving.url) as alive:
        await alive.subscribe({})
        silent = serving.dial()
        await silent.handshake()
        silent.send(["REQ", "s", {}])
        await serving.until(subscriptions=2)
        # it neither reads nor answers pings; nothing else tells that it is gone
        await serving.until(open_connections=1, subscriptions=1)
        silent.close()
        await trio.sleep(2)
        assert serving.server.open_connections == 1, "who answers pings stays"
        await alive.subscribe({})


async def test_a_peer_that_never_reads_is_ended_by_the_write_timeout(
    nursery: trio.Nursery,
) -> None:
    timing = Timing(write_timeout=0.3)
    serving = await serve(nursery, timing=timing, capacity=Capacity(outbox_bytes=65_536))
    async with client(serving.url) as writer:
        deaf = serving.dial()
        await deaf.handshake()
        deaf.send(["REQ", "s", {"kinds": [1]}])
        await serving.until(subscriptions=1)
        await writer.accept(*notes(120, size=100_000))
        await serving.until(open_connections=1, subscriptions=0)
        deaf.close()
        await writer.accept(*notes(1, kind=7))


async def test_p7_a_drain_answers_flushes_and_says_1001(nursery: trio.Nursery) -> None:
    store = MemoryStore()
    committer = HeldCommitter(store)
    serving = await serve(nursery, store=store, committer=committer)
    first, second = notes(2)
    async with client(serving.url) as one, client(serving.url) as reader:
        live = await reader.subscribe({})
        await one.expect("AUTH")
        await one.send(["EVENT", json.loads(serving_json(first))])
        await trio.sleep(0.1)
        serving.server.stop()
        await trio.sleep(0.1)
        accepted, reason = await one.publish(second)
        assert (accepted, reason) == (False, "error: shutting down")
        with pytest.raises(OSError, match="refused"):
            RawClient(serving.port)
        committer.go.set()
        await one.expect("OK", first.id, True)
        assert (await reader.event(live)).id == first.id
        async with trio.open_nursery() as closing:
            closing.start_soon(_expect_going_away, one)
            closing.start_soon(_expect_going_away, reader)
    await serving.until(open_connections=0, subscriptions=0)
    with trio.fail_after(5):
        while not serving.journal.lines or serving.journal.lines[-1][1] != "stopped":  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert serving.journal.lines[-1] == (
        "info",
        "stopped",
        {"connections": 2, "forced": 0, "unanswered": 0, "unsent_bytes": 0, "unsettled": 0},
    )


async def _expect_going_away(one: Any) -> None:
    assert (await one.closed())[0] == 1001


async def test_p7_a_drain_ends_at_its_deadline_and_says_what_was_left(
    nursery: trio.Nursery,
) -> None:
    store = MemoryStore()
    committer = HeldCommitter(store)
    serving = await serve(
        nursery, store=store, committer=committer, timing=Timing(drain_timeout=0.3)
    )
    deaf = serving.dial()
    await deaf.handshake()
    deaf.publish(*notes(3))
    with trio.fail_after(5):
        while serving.core.counters.messages < 3:  # noqa: ASYNC110
            await trio.sleep(0.01)
        serving.server.stop()
        while serving.journal.lines[-1:] == [] or serving.journal.lines[-1][1] != "stopped":  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert serving.journal.lines[-1] == (
        "warning",
        "stopped",
        {"connections": 1, "forced": 1, "unanswered": 3, "unsent_bytes": 0, "unsettled": 0},
    )
    deaf.close()


async def test_a_forced_stop_does_not_wait_for_the_drain(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, timing=Timing(drain_timeout=60.0, close_timeout=60.0))
    deaf = serving.dial()
    await deaf.handshake()
    await serving.until(open_connections=1)
    serving.server.stop()
    await trio.sleep(0.05)
    with trio.fail_after(5):
        serving.server.force()
        await serving.until(open_connections=0)
    deaf.close()


async def test_p1_a_refused_request_ends_the_subscription_that_it_was_to_replace(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    async with client(serving.url) as one:
        await one.subscribe({"kinds": [1]}, name="s")
        before = await tasks()
        await one.send(["REQ", "s", {"kinds": "not a list"}])
        await one.expect("CLOSED", "s")
        await serving.until(subscriptions=0)
        assert await tasks() == before - 1
        await one.accept(*notes(2))
        await one.nothing(0.1)


async def test_what_was_replaced_by_something_that_has_expired_is_taken_again(
    nursery: trio.Nursery,
) -> None:
    clock = [float(NOW)]
    serving = await serve(nursery, wall_clock=lambda: clock[0])
    old = AUTHOR.sign(30_023, "old", [("d", "a")], NOW - 20)
    brief = AUTHOR.sign(30_023, "brief", [("d", "a"), ("expiration", str(NOW + 5))], NOW - 10)
    async with client(serving.url) as one:
        await one.accept(old, brief)
        clock[0] += 10
        assert await one.publish(old) == (True, "")
        assert [event.id for event in await one.request({"kinds": [30_023]})] == [old.id]
