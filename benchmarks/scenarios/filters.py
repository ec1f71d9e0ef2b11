"""Finding who wants an event: many subscriptions, of which an event concerns few or none.

Three questions: what an event costs when thousands of subscriptions each name 300 authors and five
of them match; what one subscription more costs an event that it does not match; and what memory
such a subscription takes. One publisher keeps a window of events in flight.
"""

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from benchmarks.client import Client, Connection, masked_frame
from benchmarks.report import Report
from benchmarks.server import Server
from relay.protocol.event import Event
from tests.corpus import AUTHORS, authors, event_message

NAMED: Final = 300
"""Authors in each filter."""
PER_CONNECTION: Final = 25
PER_QUIET_CONNECTION: Final = 200
IN_FLIGHT: Final = 50


class _Listening:
    """One publisher, and connections whose subscriptions are counted by their names."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.client = Client(server.host, server.port)
        self.publisher = self.client.open()[0]
        self.received: dict[str, list[str]] = {}
        self._messages: list[bytes] = []
        self._answers: list[bytes] = []

    def publish(self, events: Sequence[Event], deliveries: int) -> float:
        """Publish, wait for answers and deliveries; return µs of the server's for each event."""
        frames = [masked_frame(event_message(event)) for event in events]
        self._messages, self._answers = [], []
        sent = 0

        def proceed() -> bool:
            nonlocal sent
            due = min(len(frames), len(self._answers) + IN_FLIGHT)
            if due > sent:
                self.publisher.send(b"".join(frames[sent:due]))
                sent = due
            return len(self._answers) >= len(frames) and len(self._messages) >= deliveries

        processor = self._server.processor_seconds()
        self.client.pump(proceed, self._handle)
        processor = self._server.processor_seconds() - processor
        for connection, messages in self.client.drain(0.2).items():
            self._handle(connection, messages, 0.0)
        self.received = {}
        for message in self._messages:
            _, name, event = msgspec.json.decode(message)
            self.received.setdefault(name, []).append(event["id"])
        return processor / len(events) * 1e6

    def refused(self) -> int:
        """Return how many of the last events were not accepted."""
        return sum(msgspec.json.decode(answer)[2] is not True for answer in self._answers)

    def _handle(self, connection: Connection, messages: list[bytes], _arrived: float) -> None:
        if connection is self.publisher:
            self._answers += [each for each in messages if each.startswith(b'["OK"')]
        else:
            self._messages += [each for each in messages if each.startswith(b'["EVENT"')]


def run_few(
    server: Server, report: Report, subscriptions: int, make: Callable[[int], Sequence[Event]]
) -> None:
    """Let few of many match: subscription k wants what the author k (modulo all) writes."""
    scenario = f"{subscriptions:,} filters of {NAMED} authors, few match"
    source = random.Random(f"filters {subscriptions}")
    events = make(subscriptions)
    warm_up, fresh = events[: len(events) // 4], events[len(events) // 4 :]
    listening = _Listening(server)
    try:
        listening.publish(warm_up, 0)
        before, processor = server.memory(), server.processor_seconds()
        start = time.perf_counter()
        count = -(-subscriptions // PER_CONNECTION)
        for first, connection in enumerate(listening.client.open(count)):
            names = range(first * PER_CONNECTION, (first + 1) * PER_CONNECTION)
            requests = [_few(source, name) for name in names if name < subscriptions]
            listening.client.request({connection: b"".join(requests)}, len(requests))
        elapsed = time.perf_counter() - start
        processor, after = server.processor_seconds() - processor, server.memory()
        wanted = _wanted(fresh, subscriptions)
        deliveries = sum(map(len, wanted.values()))
        cost = listening.publish(fresh, deliveries)
    finally:
        listening.client.close()
    if refused := listening.refused():
        report.differs(scenario, f"{refused} events were refused")
    for text, what in (("different events", sorted), ("another order than published", list)):
        wrong = sum(
            what(listening.received.get(name, [])) != what(wanted.get(name, []))
            for name in wanted.keys() | listening.received.keys()
        )
        if wrong:
            report.differs(scenario, f"{wrong} of {subscriptions} subscriptions got {text}")
            break
    report.less(scenario, "server", cost, "µs/event", "verification")
    report.less(
        scenario, "subscribing", processor / subscriptions * 1e6, "µs/subscription", "verification"
    )
    used = (after.unique - before.unique) / 1024 / subscriptions
    report.less(scenario, "memory", used, "kB/subscription")
    report.note(scenario, "deliveries", deliveries / len(fresh), "per event")
    report.note(scenario, "subscribed", subscriptions / elapsed, "subscriptions/s")


def run_none(
    server: Server, report: Report, counts: Sequence[int], make: Callable[[int], Sequence[Event]]
) -> None:
    """Let none match, and see what more subscriptions cost each event."""
    scenario = "subscriptions that do not match"
    listening = _Listening(server)
    costs = []
    try:
        listening.publish(make(0), 0)
        opened = 0
        for count in counts:
            filters = _absent(opened, count)
            connections = listening.client.open(-(-(count - opened) // PER_QUIET_CONNECTION))
            for connection in connections:
                requests = list(itertools.islice(filters, PER_QUIET_CONNECTION))
                listening.client.request({connection: b"".join(requests)}, len(requests))
            opened = count
            costs.append(listening.publish(make(count), 0))
            if listening.received or listening.refused():
                text = f"{len(listening.received)} subscriptions got what they did not ask for"
                report.differs(scenario, f"{text}; {listening.refused()} events were refused")
            report.less(scenario, f"server, {count:,} open", costs[-1], "µs/event", "verification")
    finally:
        listening.client.close()
    if len(counts) > 1:
        # no less than nothing: with few of them the difference is noise
        more = max(0.0, costs[-1] - costs[0]) / (counts[-1] - counts[0])
        report.note(scenario, "each more", more * 1e3, "ns/event")


def _few(source: random.Random, number: int) -> bytes:
    pool = authors()
    wanted = [source.randbytes(32).hex() for _ in range(NAMED - 1)]
    wanted.insert(source.randrange(NAMED), pool[number % AUTHORS].pubkey)
    names = '","'.join(wanted)
    return masked_frame(f'["REQ","s{number}",{{"authors":["{names}"],"limit":0}}]'.encode())


def _wanted(events: Sequence[Event], subscriptions: int) -> dict[str, list[str]]:
    number_of = {author.pubkey: number for number, author in enumerate(authors())}
    wanted: dict[str, list[str]] = {}
    for event in events:
        for number in range(number_of[event.pubkey], subscriptions, AUTHORS):
            wanted.setdefault(f"s{number}", []).append(event.id)
    return wanted


def _absent(first: int, end: int) -> Iterator[bytes]:
    """Yield requests for what nobody writes, in the shapes that clients use most."""
    source = random.Random(f"absent {first}")
    for number in range(first, end):
        key = source.randbytes(32).hex()
        shapes = (
            f'{{"authors":["{key}"],"kinds":[1]',
            f'{{"#e":["{key}"]',
            f'{{"#p":["{key}"],"kinds":[1,6,7]',
            f'{{"kinds":[1],"#t":["{key[:12]}"]',
        )
        text = f'["REQ","n{number}",{shapes[number % len(shapes)]},"limit":0}}]'
        yield masked_frame(text.encode())
