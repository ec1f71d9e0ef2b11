"""The machine's clock jumps: a day ahead, a year back. Subscriptions and the log do not care.

What the clock decides is what it must: which events are from the future, and which have expired.
"""

import time
from typing import Final

import pytest
import trio

from tests.corpus import Author
from tests.faults.watching import bystanders
from tests.served import client
from tests.session.serving import serve

DAY: Final = 86_400.0
YEAR: Final = 365 * DAY
AUTHOR: Final = Author("clock")


class Clock:
    """A wall clock that a test can set."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset

    @property
    def now(self) -> int:
        return int(self())


@pytest.mark.parametrize("jump", [DAY, -YEAR], ids=["a day ahead", "a year back"])
async def test_a_jump_of_the_clock_disturbs_no_subscription_and_the_relay_judges_by_the_new_time(
    nursery: trio.Nursery, jump: float
) -> None:
    clock = Clock()
    serving = await serve(nursery, wall_clock=clock)
    async with client(serving.url) as publisher, client(serving.url) as subscriber:
        live = await subscriber.subscribe({"kinds": [1]})
        names = []

        async def publish(content: str, created_at: int) -> tuple[bool, str]:
            event = AUTHOR.sign(1, content, [], created_at)
            accepted, reason = await publisher.publish(event)
            if accepted:
                names.append(event.id)
            return accepted, reason

        await publish("before", clock.now)
        await publish("from the past", clock.now - 1_000)
        then = clock.now
        clock.offset = jump
        assert await publish("of the new time", clock.now) == (True, "")
        accepted, reason = await publish("of the old time", then + 1)
        if jump < 0:
            assert (accepted, reason.partition(":")[0]) == (False, "invalid")
        else:
            assert accepted
        accepted, reason = await publish("from the future", clock.now + 3_600)
        assert (accepted, reason.partition(":")[0]) == (False, "invalid")
        # the others publish by the machine's clock, which only a jump back makes the future
        if jump > 0:
            async with bystanders(serving.url) as others:
                await others.until_served(20)
            wanted_others = len(others.published)
        else:
            wanted_others = 0
        clock.offset = 0
        await publish("after", clock.now)
        # in the order of acceptance, whatever the times say
        received = [(await subscriber.event(live)).id for _ in range(len(names) + wanted_others)]
        assert [one for one in received if one in names] == names
        await subscriber.nothing(0.1)
        # and a new query sees them by their own times
        stored = [event.created_at for event in await subscriber.request({"kinds": [1]})]
        assert stored == sorted(stored, reverse=True)
    assert serving.journal.errors() == []
    assert serving.core.counters.faults == 0


@pytest.mark.parametrize("jump", [DAY, YEAR], ids=["a day", "a year"])
async def test_what_expires_by_a_jump_is_gone_and_back_when_the_clock_is_set_right(
    nursery: trio.Nursery, jump: float
) -> None:
    clock = Clock()
    serving = await serve(nursery, wall_clock=clock)
    soon = str(clock.now + 3_600)
    async with client(serving.url) as one:
        lasting = AUTHOR.sign(1, "lasting", [], clock.now)
        passing = AUTHOR.sign(1, "passing", [["expiration", soon]], clock.now)
        await one.accept(lasting, passing)
        assert await one.count({"kinds": [1]}) == 2
        clock.offset = jump
        assert [event.id for event in await one.request({"kinds": [1]})] == [lasting.id]
        assert await one.count({"kinds": [1]}) == 1
        late = AUTHOR.sign(1, "late", [["expiration", soon]], clock.now)
        assert await one.publish(late) == (False, "invalid: the event has expired")
        clock.offset = 0
        # nothing has swept it meanwhile
        assert await one.count({"kinds": [1]}) == 2
    assert serving.journal.errors() == []
