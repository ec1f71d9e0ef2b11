"""What a laggard gets by each policy, and that the others notice nothing (F9, promise P4).

The slow peer is a client that does not ask for its messages: its library stops reading, then the
kernel's buffers fill, then the relay's queue for it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
import trio

from relay.protocol.event import Event
from relay.session.core import BackPressure, Capacity, Ending, Timing
from tests.served import Client, client
from tests.session.serving import AUTHOR, NOW, Serving, serve

KINDS = [1, 20_001]
"""Stored and ephemeral ones take turns."""
BACKLOG = 10
LARGE = "x" * 30_000


class Trial:
    """One laggard, somebody quick with the same subscription, and a publisher."""

    def __init__(self, serving: Serving, slow: Client, quick: Client, writer: Client) -> None:
        self.serving = serving
        self.slow = slow
        self.quick = quick
        self._writer = writer
        self._numbers = count()
        self.published: list[Event] = []

    async def publish(self, events: int) -> None:
        """Publish so many; whoever reads gets each at once, whatever the laggard does."""
        for number in range(events):
            kind = KINDS[number % 2]
            event = AUTHOR.sign(kind, f"{next(self._numbers)} {LARGE}", [], NOW)
            self.published.append(event)
            await self._writer.accept(event)
            assert (await self.quick.event("s")).id == event.id

    async def publish_until_behind(self) -> None:
        """Publish until the laggard's queue is full."""
        while not self.serving.core.counters.fell_behind:
            assert len(self.published) < 2_000, "the slow one is not slow enough"
            await self.publish(2)

    async def read(self, events: int) -> list[str]:
        """Read so many events on the laggard, and tell their ids."""
        return [(await self.slow.event("s")).id for _ in range(events)]

    async def read_to_the_end(self) -> tuple[list[str], tuple[int, str | None]]:
        """Read the laggard's events until the Close, and tell that as well."""
        farewell = await self.slow.closed()
        ids = []
        while self.slow.pending("EVENT", "s"):
            ids.append((await self.slow.event("s")).id)
        return ids, farewell

    async def read_all(self) -> list[str]:
        """Read what the laggard still gets: up to an event that is published for the purpose."""
        # so that there is room for the last one, by any policy
        received = []
        with trio.move_on_after(0.5):
            while True:
                received.append((await self.slow.event("s")).id)
        await self.publish(1)
        return received + await self.read(1)

    def ids(self, *kinds: int) -> list[str]:
        """Return the ids of what was published of these kinds (all), in order."""
        return [event.id for event in self.published if not kinds or event.kind in kinds]


@asynccontextmanager
async def trial(policy: BackPressure, block_timeout: float = 30.0) -> AsyncIterator[Trial]:
    async with trio.open_nursery() as nursery:
        serving = await serve(
            nursery,
            back_pressure=policy,
            capacity=Capacity(outbox_bytes=400_000, backlog_events=BACKLOG),
            timing=Timing(block_timeout=block_timeout),
        )
        async with (
            client(serving.url) as slow,
            client(serving.url) as quick,
            client(serving.url) as writer,
        ):
            for one in (slow, quick):
                await one.subscribe({"kinds": KINDS}, name="s")
            yield Trial(serving, slow, quick, writer)
        assert serving.core.counters.faults == 0
        nursery.cancel_scope.cancel()


async def test_f9_catch_up_misses_ephemeral_events_only_and_counts_them() -> None:
    async with trial(BackPressure.CATCH_UP) as one:
        await one.publish_until_behind()
        await one.publish(40)
        counters = one.serving.core.counters
        dropped = counters.ephemeral_dropped
        assert dropped >= 20
        assert counters.dropped == 0
        received = await one.read(len(one.published) - dropped)
        stored, ephemeral = set(one.ids(1)), one.ids(20_001)
        assert [event_id for event_id in received if event_id in stored] == one.ids(1)
        got = [event_id for event_id in received if event_id not in stored]
        assert got == ephemeral[: len(ephemeral) - dropped]
        # and it is live again, for ephemeral events, too
        await one.publish(2)
        assert await one.read(2) == one.ids()[-2:]


async def test_f9_block_lets_everything_wait_in_its_order() -> None:
    async with trial(BackPressure.BLOCK) as one:
        await one.publish_until_behind()
        await one.publish(BACKLOG - 4)
        statistics = one.serving.server.statistics()
        assert (statistics.subscriptions_behind, statistics.backlog_events > 0) == (1, True)
        assert await one.read(len(one.published)) == one.ids()
        assert one.serving.core.counters.ephemeral_dropped == 0
        await one.publish(2)
        assert await one.read(2) == one.ids()[-2:]
        statistics = one.serving.server.statistics()
        assert (statistics.subscriptions_behind, statistics.backlog_events) == (0, 0)


async def test_f9_block_reads_from_the_log_what_the_backlog_does_not_hold() -> None:
    async with trial(BackPressure.BLOCK) as one:
        await one.publish_until_behind()
        await one.publish(5 * BACKLOG)
        dropped = one.serving.core.counters.ephemeral_dropped
        assert 0 < dropped < 3 * BACKLOG
        received = await one.read(len(one.published) - dropped)
        stored = set(one.ids(1))
        assert [event_id for event_id in received if event_id in stored] == one.ids(1)
        assert len(set(received)) == len(received)
        assert one.serving.core.counters.dropped == 0


@pytest.mark.parametrize("policy", [BackPressure.BLOCK, BackPressure.DISCONNECT])
async def test_f9_a_consumer_that_is_given_up_gets_what_is_queued_and_a_close(
    policy: BackPressure,
) -> None:
    async with trial(policy, block_timeout=0.3) as one:
        await one.publish_until_behind()
        # it is not read from, so the Close waits behind what was queued
        await one.serving.until(subscriptions=1)
        await one.publish(3)
        received, farewell = await one.read_to_the_end()
        assert farewell == (1008, "slow consumer: events were not read in time")
        assert received == one.ids()[: len(received)], "there is a gap before the Close"
        await one.serving.until(open_connections=2)
        assert one.serving.core.counters.endings == {Ending.SLOW: 1}
        await one.publish(3)


async def test_f9_drop_oldest_keeps_the_newest_and_counts_the_others() -> None:
    async with trial(BackPressure.DROP_OLDEST) as one:
        await one.publish_until_behind()
        await one.publish(4 * BACKLOG)
        counters = one.serving.core.counters
        dropped = counters.dropped + counters.ephemeral_dropped
        assert counters.dropped > BACKLOG
        assert counters.ephemeral_dropped > BACKLOG
        received = await one.read_all()
        assert len(received) == len(one.published) - dropped
        kept = BACKLOG + 1
        assert received[-kept:] == one.ids()[-kept:]
        assert received[:-kept] == one.ids()[: len(received) - kept]


async def test_f9_drop_new_keeps_the_oldest_and_counts_the_others() -> None:
    async with trial(BackPressure.DROP_NEW) as one:
        await one.publish_until_behind()
        await one.publish(4 * BACKLOG)
        counters = one.serving.core.counters
        dropped = counters.dropped + counters.ephemeral_dropped
        assert counters.dropped > BACKLOG
        assert counters.ephemeral_dropped > BACKLOG
        received = await one.read_all()
        assert len(received) == len(one.published) - dropped
        assert received[:-1] == one.ids()[: len(received) - 1]
        assert received[-1] == one.ids()[-1], "it is live again"


@pytest.mark.parametrize("policy", list(BackPressure))
async def test_stored_events_are_waited_for_by_any_policy(policy: BackPressure) -> None:
    async with trial(policy, block_timeout=0.3) as one:
        await one.publish_until_behind()
        await one.publish(50)
        stored = one.ids(1)
        async with client(one.serving.url) as late:
            await late.send(["REQ", "all", {"kinds": [1]}])
            # far more than its queue holds, and it takes its time
            await trio.sleep(0.5)
            await one.publish(10)
            received = [(await late.event("all")).id for _ in range(len(one.ids(1)))]
            assert sorted(received[: len(stored)]) == sorted(stored)
            assert received[len(stored) :] == one.ids(1)[len(stored) :]
