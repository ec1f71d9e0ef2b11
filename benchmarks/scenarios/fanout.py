"""Pushing out: one publisher, many subscribers who all want everything.

Singles are published at a steady rate, whatever the subscribers do, which shows the latency of a
delivery; bursts of 20 are published when the one before has arrived everywhere. The cost of a
delivery includes its share of taking the event in. For each subscriber every message is compared
with what was published: each event once, in publish order.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from benchmarks.client import SUBSCRIPTION, Client, Connection, masked_frame
from benchmarks.report import Report, percentile
from benchmarks.server import Server
from relay.protocol.event import Event, canonical_json
from tests.corpus import event_message

RATE: Final = 100
"""Single events per second."""
MOST_DELIVERIES: Final = 50_000
"""Deliveries per second beyond which the rate of single events is lowered."""
BURST: Final = 20


class _Audience:
    """The subscribers, and what has reached each of them."""

    def __init__(self, server: Server, subscribers: int) -> None:
        self.client = Client(server.host, server.port)
        self.publisher = self.client.open()[0]
        self.subscribers = self.client.open(subscribers)
        self.client.subscribe(self.subscribers, b'{"kinds":[1],"limit":0}')
        self.received: dict[Connection, list[bytes]] = {each: [] for each in self.subscribers}
        self.arrivals: dict[Connection, list[float]] = {each: [] for each in self.subscribers}
        self.deliveries = 0
        self.answers: list[bytes] = []

    def handle(self, connection: Connection, messages: list[bytes], arrived: float) -> None:
        if connection is self.publisher:
            self.answers += [each for each in messages if each.startswith(b'["OK"')]
            return
        self.received[connection] += messages
        self.arrivals[connection] += [arrived] * len(messages)
        self.deliveries += len(messages)

    def complete(self, events: int) -> bool:
        """Tell whether so many events have been answered and have reached everybody."""
        wanted = events * len(self.subscribers)
        return self.deliveries >= wanted and len(self.answers) >= events

    def latencies(self, sent_at: Sequence[float]) -> list[float]:
        """Return the seconds from sending to arrival, of each event at each subscriber."""
        return [
            arrived - sent
            for arrivals in self.arrivals.values()
            for arrived, sent in zip(arrivals, sent_at, strict=False)
        ]

    def forget(self) -> None:
        for connection in self.subscribers:
            self.received[connection].clear()
            self.arrivals[connection].clear()
        self.deliveries = 0
        self.answers.clear()


def run(server: Server, report: Report, subscribers: int, events: Sequence[Event]) -> None:
    """Publish `events`, half of them one by one and half in bursts."""
    half = len(events) // 2
    audience = _Audience(server, subscribers)
    try:
        _singles(server, report, audience, events[:half])
        audience.forget()
        _bursts(server, report, audience, events[half:])
    finally:
        audience.client.close()


def _singles(server: Server, report: Report, audience: _Audience, events: Sequence[Event]) -> None:
    subscribers = len(audience.subscribers)
    rate = max(1, min(RATE, MOST_DELIVERIES // subscribers))
    scenario = f"fan-out to {subscribers:,}, singles"
    frames = [masked_frame(event_message(event)) for event in events]
    sent_at: list[float] = []
    processor = server.processor_seconds()
    start = time.perf_counter()

    def publish_when_due() -> bool:
        due = int((time.perf_counter() - start) * rate) + 1
        while len(sent_at) < min(due, len(frames)):
            audience.publisher.send(frames[len(sent_at)])
            sent_at.append(time.perf_counter())
        return audience.complete(len(events))

    own = time.process_time()
    audience.client.pump(publish_when_due, audience.handle, turn=0.5 / rate)
    elapsed, own = time.perf_counter() - start, time.process_time() - own
    processor = server.processor_seconds() - processor
    _check(report, scenario, audience, events)
    latencies = audience.latencies(sent_at)
    deliveries = len(events) * subscribers
    report.less(scenario, "server", processor / deliveries * 1e6, "µs/delivery", "send")
    report.less(scenario, "latency p50", percentile(latencies, 0.5) * 1e3, "ms")
    report.less(scenario, "latency p99", percentile(latencies, 0.99) * 1e3, "ms")
    report.note(scenario, "published", rate, "events/s")
    report.note(scenario, "client busy", own / elapsed, "processors")


def _bursts(server: Server, report: Report, audience: _Audience, events: Sequence[Event]) -> None:
    subscribers = len(audience.subscribers)
    scenario = f"fan-out to {subscribers:,}, bursts of {BURST}"
    bursts = [
        b"".join(masked_frame(event_message(event)) for event in events[first : first + BURST])
        for first in range(0, len(events), BURST)
    ]
    sent_at = []
    processor = server.processor_seconds()
    start, own = time.perf_counter(), time.process_time()
    published = 0
    for burst in bursts:
        published = min(published + BURST, len(events))
        sent_at += [time.perf_counter()] * BURST
        audience.publisher.send(burst)
        audience.client.pump(partial(audience.complete, published), audience.handle)
    elapsed, own = time.perf_counter() - start, time.process_time() - own
    processor = server.processor_seconds() - processor
    _check(report, scenario, audience, events)
    latencies = audience.latencies(sent_at)
    deliveries = len(events) * subscribers
    report.more(scenario, "rate", deliveries / elapsed, "deliveries/s")
    report.less(scenario, "server", processor / deliveries * 1e6, "µs/delivery", "send")
    report.less(scenario, "latency p50", percentile(latencies, 0.5) * 1e3, "ms")
    report.less(scenario, "latency p99", percentile(latencies, 0.99) * 1e3, "ms")
    report.note(scenario, "client busy", own / elapsed, "processors")


def _check(report: Report, scenario: str, audience: _Audience, events: Sequence[Event]) -> None:
    """Check that everybody got every event exactly once, in publish order."""
    for connection, messages in audience.client.drain(0.2).items():
        audience.handle(connection, messages, time.perf_counter())
    refused = [each for each in audience.answers if msgspec.json.decode(each)[2] is not True]
    if refused or len(audience.answers) != len(events):
        report.differs(
            scenario,
            f"{len(audience.answers)} answers to {len(events)} events, refused: {refused[:1]}",
        )
    # what a relay that writes canonical JSON sends; others are compared id by id
    exact = [b'["EVENT","%s",%s]' % (SUBSCRIPTION.encode(), canonical_json(e)) for e in events]
    ids = [event.id for event in events]
    incomplete = disordered = 0
    for received in audience.received.values():
        if received == exact:
            continue
        got = [_id(message) for message in received]
        if got != ids:
            incomplete += sorted(got) != sorted(ids)
            disordered += sorted(got) == sorted(ids)
    total = len(audience.subscribers)
    if incomplete:
        text = f"{incomplete} of {total} subscribers did not get every event exactly once"
        report.differs(scenario, text)
    if disordered:
        text = f"{disordered} of {total} subscribers got the events in another order than published"
        report.differs(scenario, text)


def _id(message: bytes) -> str:
    decoded = msgspec.json.decode(message)
    return str(decoded[2]["id"]) if decoded[0] == "EVENT" else message.decode()
