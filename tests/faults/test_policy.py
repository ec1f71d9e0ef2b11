"""A policy with a fault of its own ends the connection that has met it, and no other."""

import pytest
import trio
from trio_websocket import ConnectionClosed

from relay.policy.defaults import default_policy
from relay.policy.verdict import Client, Policy, Verdict
from relay.protocol.event import Event
from relay.protocol.filters import Filter
from relay.protocol.limits import Limits
from tests import served
from tests.corpus import Author, event_message
from tests.faults.watching import bystanders, note
from tests.served import client
from tests.session.serving import serve, tasks

UNLUCKY = 13
AUTHOR = Author("policy")


class Unprepared(Exception):
    """Something that the author of a policy has not thought of."""


def no_idea_of_an_event(event: Event, _client: Client, _now: int) -> Verdict:
    if event.kind == UNLUCKY:
        raise Unprepared("an event")
    return None


def no_idea_of_a_request(filters: tuple[Filter, ...], _client: Client, _now: int) -> Verdict:
    if any(one.kinds == frozenset([UNLUCKY]) for one in filters):
        raise Unprepared("a request")
    return None


async def nothing_but_events(one: served.Client) -> None:
    """Read until the connection ends."""
    with trio.fail_after(10):
        while True:
            answer = await one.receive()
            assert answer[0] in ("AUTH", "EVENT"), answer


@pytest.mark.parametrize("message", ["EVENT", "REQ", "COUNT"])
async def test_a_policy_that_raises_ends_that_connection_and_no_other(message: str) -> None:
    limits = Limits()
    sound = default_policy(limits)
    policy = Policy((no_idea_of_an_event, *sound.event_checks), (no_idea_of_a_request,))
    unlucky = AUTHOR.sign(UNLUCKY, "", [], note("").created_at)
    fatal = {
        "EVENT": event_message(unlucky),
        "REQ": ["REQ", "s", {"kinds": [UNLUCKY]}],
        "COUNT": ["COUNT", "s", {"kinds": [UNLUCKY]}],
    }[message]
    async with trio.open_nursery() as nursery:
        serving = await serve(nursery, limits=limits, policy=policy)
        at_rest = await tasks()
        async with bystanders(serving.url):
            for number in range(10):
                async with client(serving.url) as one:
                    # what it did before holds
                    before = note(f"{message} {number}")
                    await one.subscribe({"kinds": [1], "limit": 0})
                    await one.accept(before)
                    await one.send(fatal)
                    with pytest.raises(ConnectionClosed):
                        await nothing_but_events(one)
                assert serving.core.counters.faults == number + 1
            await serving.until(open_connections=2, subscriptions=1)
        await serving.until(open_connections=0, subscriptions=0)
        async with client(serving.url) as reader:
            assert await reader.count({"ids": [unlucky.id]}) == 0
            assert await reader.count({"ids": [before.id]}) == 1
        await serving.until(open_connections=0)
        assert await tasks() == at_rest
        failures = serving.journal.errors()
        assert [line[1] for line in failures] == ["connection failed"] * 10
        assert all(line[2]["exc_info"] for line in failures)
        nursery.cancel_scope.cancel()
