"""A served relay, filled with mixed traffic, answers every shape of filter as the plain store does.

The events are published by several connections at once and in disorder: newer versions before
older ones, deletions before what they delete. What a relay keeps in the end must not depend on
that, so it is compared with a plain store that was given the same events in order.
"""

import random
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
import trio

from relay.protocol.event import Event, canonical_json, is_ephemeral
from relay.protocol.limits import Limits
from tests.corpus import event_message, traffic_list
from tests.oracle import Oracle
from tests.served import ServedRelay, client, served_relay
from tests.shapes import Shapes

EVENTS: Final = 2_000
SLOW_EVENTS: Final = 100_000
CONNECTIONS: Final = 4
IN_FLIGHT: Final = 40
DISORDER: Final = 400
VARIANTS: Final = 3


def disordered(events: list[Event]) -> list[Event]:
    """Return the events with each moved by up to some hundred places."""
    source = random.Random("disorder")
    keyed = [(number + source.random() * DISORDER, event) for number, event in enumerate(events)]
    return [event for _, event in sorted(keyed, key=lambda item: item[0])]


class Publishing:
    """Publishes events over some connections, and keeps the answers."""

    def __init__(self, relay: ServedRelay, events: list[Event]) -> None:
        self._relay = relay
        self._waiting = list(reversed(events))
        self.answers: dict[str, tuple[bool, str]] = {}

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS):
                nursery.start_soon(self._connection)

    async def _connection(self) -> None:
        async with client(self._relay.url) as publisher:
            pending = 0
            while self._waiting or pending:
                while self._waiting and pending < IN_FLIGHT:
                    pending += 1
                    await publisher.send(event_message(self._waiting.pop()))
                _, identifier, accepted, reason = await publisher.expect("OK")
                pending -= 1
                assert identifier not in self.answers, "answered twice"
                self.answers[identifier] = (accepted, reason)


class Listening:
    """Counts the ephemeral events that a subscription delivers, until all have come."""

    def __init__(self, relay: ServedRelay, wanted: int) -> None:
        self._relay = relay
        self._wanted = wanted
        self.delivered: Counter[str] = Counter()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        kinds = [20000, 20001, 23456, 25050, 29999]
        async with client(self._relay.url) as reader:
            name = await reader.subscribe({"kinds": kinds})
            task_status.started()
            while self.delivered.total() < self._wanted:
                self.delivered[(await reader.event(name)).id] += 1
            await reader.nothing(0.2)


async def _compare(relay: ServedRelay, events: list[Event], oracle: Oracle) -> None:
    async with client(relay.url) as reader:
        for variant in range(VARIANTS):
            shapes = Shapes(events, variant)
            for shape in shapes.requests():
                found = [canonical_json(event) for event in await reader.request(*shape.filters)]
                assert found == oracle.rows(shape.filters), shape
            for shape in shapes.counts():
                assert await reader.count(*shape.filters) == oracle.count(shape.filters), shape


async def _fill_and_compare(directory: Path, count: int) -> None:
    events = traffic_list(count, processes=2)
    oracle = Oracle(events)
    ephemeral = [event.id for event in events if is_ephemeral(event.kind)]
    with served_relay(directory) as relay:
        publishing = Publishing(relay, disordered(events))
        listening = Listening(relay, len(ephemeral))
        async with trio.open_nursery() as nursery:
            await nursery.start(listening.run)
            nursery.start_soon(publishing.run)
        assert listening.delivered == Counter(ephemeral)
        assert publishing.answers.keys() == {event.id for event in events}
        shown = set(oracle.rows([{"limit": count}], Limits(max_limit=count)))
        for event in events:
            accepted, reason = publishing.answers[event.id]
            wanted = is_ephemeral(event.kind) or canonical_json(event) in shown
            assert accepted or not wanted, f"kind {event.kind} was refused: {reason}"
            assert accepted or ":" in reason, f"a refusal without a prefix: {reason}"
        await _compare(relay, events, oracle)
        # and none of it lives only in memory
        relay.restart()
        await _compare(relay, events, oracle)


async def test_a_served_relay_answers_as_the_plain_store_does(tmp_path: Path) -> None:
    await _fill_and_compare(tmp_path, EVENTS)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_a_served_relay_answers_as_the_plain_store_does_at_scale(
    tmp_path: Path, scale: float
) -> None:
    await _fill_and_compare(tmp_path, max(EVENTS, int(SLOW_EVENTS * scale)))
