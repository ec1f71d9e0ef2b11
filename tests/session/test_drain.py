"""A stop is a drain (promise P7, failure F8): who publishes and who reads slowly when it comes."""

from contextlib import suppress

import msgspec
import pytest
import trio

from relay.protocol.event import Event
from relay.session.core import Capacity, Ending, Timing
from relay.store.memory import MemoryStore
from tests.corpus import event_message
from tests.pipeline import SHUTTING_DOWN, Pipeline
from tests.served import client
from tests.session import wire
from tests.session.serving import Serving, eventually, notes, serve
from tests.session.test_server import HeldCommitter

CLEAN = {"forced": 0, "unanswered": 0, "unsent_bytes": 0, "unsettled": 0}


async def stopped(serving: Serving) -> dict[str, object]:
    """Wait for the log line of the stop, and return its fields."""
    lines = serving.journal.lines
    await eventually(lambda: bool(lines) and lines[-1][1] == "stopped")
    return lines[-1][2]


async def test_f8_a_publisher_in_full_swing_gets_an_answer_for_every_event(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    async with client(serving.url) as one:
        pipeline = Pipeline(one, notes(6_000), window=300)
        async with trio.open_nursery() as publishing:
            publishing.start_soon(pipeline.run)
            await pipeline.under_way.wait()
            serving.server.stop()
        assert pipeline.farewell is not None
        assert pipeline.farewell.code == 1001
    stored = pipeline.said(accepted=True)
    refused = pipeline.said(accepted=False, reason=SHUTTING_DOWN)
    assert stored + refused == pipeline.sent, "an event got no answer, or the wrong one"
    assert stored
    assert refused, "it was not in full swing"
    assert len(pipeline.sent) < 6_000
    assert await stopped(serving) == {"connections": 1, **CLEAN}
    assert serving.core.counters.events_stored == len(stored)


async def test_f8_a_publisher_far_away_is_refused_what_it_sent_before_it_could_know(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    async with client(serving.url) as one, client(serving.url) as idle:
        events = notes(5)
        await one.accept(events[0])
        serving.server.stop()
        for event in events[1:]:
            # on their way when the relay began to stop; the refusals are on theirs
            await trio.sleep(0.15)
            await one.send(event_message(event))
        # who has nothing to do with that need not wait
        assert idle.connection.closed or (await idle.closed())[0] == 1001
        for event in events[1:]:
            await one.expect("OK", event.id, False, SHUTTING_DOWN)
        assert (await one.closed())[0] == 1001
    assert await stopped(serving) == {"connections": 2, **CLEAN}


async def test_f8_a_publisher_that_does_not_listen_is_counted(nursery: trio.Nursery) -> None:
    timing = Timing(drain_timeout=1.5, close_timeout=0.5)
    serving = await serve(nursery, timing=timing)
    rude = serving.dial()
    await rude.handshake()
    # blocking here would stop the relay, too
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(rude.socket))
    async with trio.open_nursery() as publishing:

        async def go_on() -> None:
            # it publishes whatever it is told, until the socket breaks
            events = b"".join([wire.text(event_message(event)) for event in notes(5)])
            with suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(events)
                    await trio.sleep(0.01)

        publishing.start_soon(go_on)
        await eventually(lambda: serving.core.counters.messages >= 20)
        serving.server.stop()
        fields = await stopped(serving)
    await stream.aclose()
    assert fields["connections"] == 1
    assert fields["unanswered"] == serving.core.counters.messages_too_late > 0


async def test_f8_a_slow_consumer_gets_everything_before_the_close(nursery: trio.Nursery) -> None:
    serving = await serve(
        nursery,
        capacity=Capacity(outbox_bytes=100_000),
        timing=Timing(drain_timeout=20.0),
        log_entries=10,
    )
    events = notes(600, size=30_000)
    async with client(serving.url) as slow, client(serving.url) as quick:
        await slow.subscribe({"kinds": [1]}, name="s")
        async with client(serving.url) as writer:
            await writer.accept(*events)
        assert serving.core.counters.fell_behind == 1
        serving.server.stop()
        await trio.sleep(0.3)
        # the quick one need not wait for the slow one
        assert (await quick.closed())[0] == 1001
        received = [(await slow.event("s")).id for _ in events]
        assert received == [event.id for event in events]
        assert (await slow.closed())[0] == 1001
    assert await stopped(serving) == {"connections": 2, **CLEAN}
    assert serving.core.counters.endings[Ending.DRAINED] == 2


async def test_f8_what_a_deaf_consumer_did_not_take_is_counted(nursery: trio.Nursery) -> None:
    serving = await serve(
        nursery,
        capacity=Capacity(outbox_bytes=100_000),
        timing=Timing(drain_timeout=0.6, close_timeout=0.2),
    )
    async with client(serving.url) as deaf, client(serving.url) as quick:
        await deaf.subscribe({"kinds": [1]}, name="s")
        live = await quick.subscribe({"kinds": [1]})
        events = notes(600, size=30_000)
        async with client(serving.url) as writer:
            for event in events:
                await writer.accept(event)
                assert (await quick.event(live)).id == event.id
        await serving.until(open_connections=2)
        serving.server.stop()
        fields = await stopped(serving)
        assert (await quick.closed())[0] == 1001
        # no Close; also, its library ends only when it has been read from
        assert (await deaf.closed())[0] == 1006
    unsent = fields.pop("unsent_bytes")
    assert isinstance(unsent, int)
    assert 30_000 < unsent < 200_000
    assert fields == {"connections": 2, "forced": 1, "unanswered": 0, "unsettled": 1}
    endings = serving.core.counters.endings
    assert (endings[Ending.DRAINED], endings[Ending.FORCED]) == (1, 1)


async def test_a_connection_that_is_closed_has_its_events_answered_first(
    nursery: trio.Nursery,
) -> None:
    store = MemoryStore()
    committer = HeldCommitter(store)
    serving = await serve(nursery, store=store, committer=committer)
    first, second = notes(2)
    async with client(serving.url) as one:
        await one.send(["EVENT", {**_fields(first)}])
        await serving.until(open_connections=1)
        await eventually(lambda: serving.server.statistics().events_unanswered == 1)
        (connection,) = serving.server._connections
        connection.begin_close(Ending.SLOW, 1008, "for a reason")
        assert await one.publish(second) == (False, "error: the connection is being closed")
        committer.go.set()
        await one.expect("OK", first.id, True)
        assert await one.closed() == (1008, "for a reason")


async def test_a_count_is_answered_before_the_close(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, capacity=Capacity(page_seconds=0.0))
    async with client(serving.url) as one:
        await one.accept(*notes(300))
        await one.send(["COUNT", "c", {"kinds": [1]}])
        await one.expect("COUNT", "c")
        await one.send(["COUNT", "d", {"kinds": [1]}])
        with trio.fail_after(5):
            while serving.core.counters.messages < 302:
                await trio.lowlevel.checkpoint()
        serving.server.stop()
        assert (await one.expect("COUNT", "d"))[2] == {"count": 300}
        assert (await one.closed())[0] == 1001


def _fields(event: Event) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(event)
    return fields


@pytest.mark.parametrize("drain_timeout", [0.0, 0.2, 5.0])
async def test_an_idle_relay_stops_at_once_whatever_the_timeout(
    nursery: trio.Nursery, drain_timeout: float
) -> None:
    serving = await serve(nursery, timing=Timing(drain_timeout=drain_timeout))
    serving.server.stop()
    assert await stopped(serving) == {"connections": 0, **CLEAN}
