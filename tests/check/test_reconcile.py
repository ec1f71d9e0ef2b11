"""The client's part of set reconciliation, against a served relay and against unfaithful ones."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from relay.check.address import parse_address
from relay.check.connection import Connection
from relay.check.dial import Dialer
from relay.check.keepalive import Keepalive
from relay.check.reconcile import Difference, NotReconciled, reconcile
from relay.protocol.event import Event
from relay.session.vectors import ReconciliationLimits
from tests.check.faulty import FaultyRelay, Peer
from tests.check.faulty import serving as serving_faultily
from tests.served import client
from tests.session.serving import notes, serve, tasks


@asynccontextmanager
async def dialled(url: str) -> AsyncIterator[Connection]:
    async with trio.open_nursery() as nursery:
        yield await Dialer(parse_address(url), nursery, Keepalive(20, 20)).dial()
        nursery.cancel_scope.cancel()


def items(events: list[Event]) -> list[tuple[int, str]]:
    return [(event.created_at, event.id) for event in events]


def identities(events: list[Event]) -> frozenset[bytes]:
    return frozenset(bytes.fromhex(event.id) for event in events)


async def test_the_difference_is_found_in_both_directions(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    events = notes(400)
    async with client(serving.url) as one:
        await one.accept(*events[:300])
    before = await tasks()
    async with dialled(serving.url) as connection:
        found = await reconcile(connection, {"kinds": [1]}, items(events[50:]), frame_size=4096)
    assert found == Difference(identities(events[300:]), identities(events[:50]))
    await serving.until(open_connections=0)
    assert await tasks() == before


async def test_a_refusal_says_why(nursery: trio.Nursery) -> None:
    serving = await serve(nursery, reconciliation=ReconciliationLimits(max_records=5))
    async with client(serving.url) as one:
        await one.accept(*notes(6))
    async with dialled(serving.url) as connection:
        with pytest.raises(NotReconciled, match="blocked: this query is too big 5"):
            await reconcile(connection, {}, [])


class Unfaithful(FaultyRelay):
    """Answers NEG-OPEN by what a test says."""

    def __init__(self, *answers: list[Any]) -> None:
        super().__init__()
        self.answers = answers

    async def _message(self, peer: Peer, message: list[Any]) -> None:
        if message[0] == "NEG-OPEN":
            for answer in self.answers:
                await peer.send(*answer)
        else:
            await super()._message(peer, message)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (["NEG-MSG", "reconcile", "6100"], "not a message of the Negentropy Protocol"),
        (["NEG-MSG", "reconcile", "62"], "version 2"),
        (["NEG-MSG", "reconcile", "zz"], "not of hex digits"),
        (["NEG-MSG", "reconcile"], "not of hex digits"),
        (["NEG-ERR", "reconcile", "closed: x"], "closed: x"),
        (["NOTICE", "ERROR: bad msg: unknown cmd"], "unknown cmd"),
        (["NEG-MSG", "another", "61"], "no answer within"),
        (["NOTICE", "welcome"], "no answer within"),
    ],
    ids=json.dumps,
)
async def test_whatever_a_relay_says_ends_in_time(answer: list[Any], reason: str) -> None:
    with serving_faultily(Unfaithful(answer)) as url:
        async with dialled(url) as connection:
            with pytest.raises(NotReconciled, match=reason):
                await reconcile(connection, {}, [], patience=0.3)


class Leaving(FaultyRelay):
    async def _message(self, peer: Peer, _message: list[Any]) -> None:
        await peer.stream.aclose()


async def test_a_relay_that_leaves_is_no_traceback() -> None:
    with serving_faultily(Leaving()) as url:
        async with dialled(url) as connection:
            with pytest.raises(NotReconciled, match="the relay"):
                await reconcile(connection, {}, [])
