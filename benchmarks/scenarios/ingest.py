"""Taking in events: connections that each keep a window of events in flight.

Every connection has its events' frames ready and sends as many new ones as it was answered. One
author's events go through one connection, in order, so that every one of them must be accepted;
each answer is checked after the clock has stopped. The times of sending and of arrival are those
of whole sends and reads, as a client sees them.
"""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from benchmarks.client import Client, Connection, masked_frame
from benchmarks.report import Report, percentile
from benchmarks.server import Server
from relay.protocol.event import Event, is_ephemeral
from tests.corpus import event_message

CONNECTIONS: Final = 10
IN_FLIGHT: Final = 50


class _Lane:
    """One connection's share of the events."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.frames = [masked_frame(event_message(event)) for event in events]
        self.sent_at: list[float] = []
        self.answers: list[tuple[float, bytes]] = []

    def fill(self, connection: Connection) -> None:
        """Send until the window is full."""
        first = len(self.sent_at)
        frames = self.frames[first : len(self.answers) + IN_FLIGHT]
        if frames:
            now = time.perf_counter()
            self.sent_at.extend([now] * len(frames))
            connection.send(b"".join(frames))


def run(server: Server, report: Report, name: str, events: Sequence[Event]) -> None:
    """Publish `events` and report how fast they were taken."""
    scenario = f"ingest, {name}"
    lanes = _lanes(events)
    client = Client(server.host, server.port)
    try:
        lane_of = dict(zip(client.open(CONNECTIONS), lanes, strict=True))
        client.drain(0.2)  # a challenge, perhaps
        answered = 0

        def handle(connection: Connection, messages: list[bytes], arrived: float) -> None:
            nonlocal answered
            lane = lane_of[connection]
            oks = [message for message in messages if message.startswith(b'["OK"')]
            lane.answers.extend((arrived, message) for message in oks)
            answered += len(oks)
            lane.fill(connection)

        processor = server.processor_seconds()
        start, own = time.perf_counter(), time.process_time()
        for connection, lane in lane_of.items():
            lane.fill(connection)
        client.pump(lambda: answered >= len(events), handle)
        elapsed, own = time.perf_counter() - start, time.process_time() - own
        processor = server.processor_seconds() - processor
        late = client.drain(0.1)
    finally:
        client.close()
    if late:
        report.differs(scenario, f"messages after the last OK: {str(late)[:300]}")
    latencies = _checked(report, scenario, lanes)
    report.more(scenario, "rate", len(events) / elapsed, "events/s")
    report.less(scenario, "server", processor / len(events) * 1e6, "µs/event", "verification")
    report.less(scenario, "OK p50", percentile(latencies, 0.5) * 1e3, "ms")
    report.less(scenario, "OK p99", percentile(latencies, 0.99) * 1e3, "ms")
    report.note(scenario, "events", len(events), "")
    report.note(scenario, "server busy", processor / elapsed, "processors")
    report.note(scenario, "client busy", own / elapsed, "processors")


def fill(server: Server, events: Sequence[Event]) -> None:
    """Publish `events` without measuring, for scenarios that need a filled store."""
    quiet = Report()
    run(server, quiet, "fill", events)
    if quiet.differences:
        raise RuntimeError(quiet.differences[0][1])


def _lanes(events: Sequence[Event]) -> list[_Lane]:
    """Share events out by author, the next author to whoever has least."""
    shares: list[list[Event]] = [[] for _ in range(CONNECTIONS)]
    share_of: dict[str, list[Event]] = {}
    for event in events:
        share = share_of.get(event.pubkey)
        if share is None:
            share = share_of[event.pubkey] = min(shares, key=len)
        share.append(event)
    return [_Lane(share) for share in shares]


def _checked(report: Report, scenario: str, lanes: list[_Lane]) -> list[float]:
    """Check that every event was accepted exactly once; return the latencies."""
    latencies = []
    refused: Counter[str] = Counter()
    for lane in lanes:
        sent = {event.id: (event, at) for event, at in zip(lane.events, lane.sent_at, strict=True)}
        for arrived, message in lane.answers:
            _, identifier, accepted, reason = msgspec.json.decode(message)
            event, at = sent.pop(identifier, (None, 0.0))
            if event is None:
                report.differs(scenario, f"an OK for what was not asked: {message!r}")
                continue
            latencies.append(arrived - at)
            # nobody listens here, and NIP-01 lets a relay say so
            unheard = is_ephemeral(event.kind) and reason.startswith("mute:")
            if not accepted and not unheard:
                refused[f"kind {event.kind} refused: {reason}"] += 1
        if sent:
            report.differs(scenario, f"{len(sent)} events were not answered")
    for text, count in refused.most_common(5):
        report.differs(scenario, f"{count} of {text}")
    return latencies
