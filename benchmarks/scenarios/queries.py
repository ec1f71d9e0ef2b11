"""Answering filters: a filled store, every shape of filter, one request after the other.

The latency is a client's: from sending the request until its EOSE (or COUNT) has arrived. Values
differ from request to request. The first answer of each shape is compared with the plain store's:
a relay that answers quickly and wrongly has a problem, not a result.
"""

import contextlib
import json
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from benchmarks.client import Client, Connection, masked_frame
from benchmarks.report import Report, percentile
from benchmarks.server import Server
from relay.protocol.event import Event, decode_event
from tests.oracle import Oracle
from tests.shapes import Shape, Shapes

VARIANTS: Final = 20
"""Requests of one shape with different values."""
SECONDS_PER_SHAPE: Final = 1.0


def run(server: Server, report: Report, events: Sequence[Event], repeats: int) -> None:
    """Ask for every shape `repeats` times, or until its time is over."""
    oracle = Oracle(events)
    source = Shapes(events)
    by_name: dict[tuple[str, str], list[Shape]] = {}
    for _ in range(VARIANTS):
        for shape in source.requests():
            by_name.setdefault(("REQ", shape.name), []).append(shape)
    for _ in range(VARIANTS):
        for shape in source.counts():
            by_name.setdefault(("COUNT", shape.name), []).append(shape)
    with contextlib.closing(Client(server.host, server.port)) as client:
        asking = _Asking(client)
        for (verb, name), variants in by_name.items():
            _measure(server, report, asking, verb, name, variants, repeats)
            answer = asking.ask(_frame(verb, variants[0]), verb)
            wrong = _difference(answer, verb, variants[0], oracle)
            if wrong is not None:
                report.problem(f"query {name}", wrong)


class _Asking:
    """One connection, with one request at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._connection = client.open()[0]
        self._answer: list[bytes] = []
        self._close = masked_frame(b'["CLOSE","q"]')
        self.ended = 0.0

    def ask(self, request: bytes, verb: str) -> list[bytes]:
        """Return the whole answer; `ended` is then the time at which it was there."""
        self._answer = []
        last_words = (b'["EOSE"', b'["COUNT"', b'["CLOSED"', b'["NOTICE"')
        self._connection.send(request)
        self._client.pump(
            lambda: bool(self._answer) and self._answer[-1].startswith(last_words), self._handle
        )
        if verb == "REQ":
            self._connection.send(self._close)
        return self._answer

    def _handle(self, _connection: Connection, messages: list[bytes], _arrived: float) -> None:
        # a challenge may come at any time and answers nothing
        self._answer += [each for each in messages if not each.startswith(b'["AUTH"')]
        # now, since what is measured ends with the last byte and not with the first
        self.ended = time.perf_counter()


def _measure(
    server: Server,
    report: Report,
    asking: _Asking,
    verb: str,
    name: str,
    variants: Sequence[Shape],
    repeats: int,
) -> None:
    scenario = f"query {name}"
    requests = [_frame(verb, shape) for shape in variants]
    latencies: list[float] = []
    rows = 0
    processor = server.processor_seconds()
    end = time.perf_counter() + SECONDS_PER_SHAPE
    while len(latencies) < repeats and (time.perf_counter() < end or len(latencies) < 3):
        start = time.perf_counter()
        answer = asking.ask(requests[len(latencies) % len(requests)], verb)
        latencies.append(asking.ended - start)
        rows += len(answer) - 1
    processor = server.processor_seconds() - processor
    report.add(scenario, "p50", percentile(latencies, 0.5) * 1e3, "ms")
    report.add(scenario, "p99", percentile(latencies, 0.99) * 1e3, "ms")
    report.add(scenario, "server", processor / len(latencies) * 1e6, "µs/query", "verification")
    if verb == "REQ":
        report.add(scenario, "rows", rows / len(latencies), "events")


def _frame(verb: str, shape: Shape) -> bytes:
    return masked_frame(json.dumps([verb, "q", *shape.filters], separators=(",", ":")).encode())


def _difference(answer: list[bytes], verb: str, shape: Shape, oracle: Oracle) -> str | None:
    """Return how the answer differs from the plain store's."""
    *rows, last = map(msgspec.json.decode, answer)
    if verb == "COUNT":
        wanted = oracle.count(shape.filters)
        found = last[2]["count"] if last[0] == "COUNT" else last
        return None if found == wanted else f"counted {found} instead of {wanted}"
    if last[0] != "EOSE":
        return f"refused: {last}"
    wanted_ids = [decode_event(raw).id for raw in oracle.rows(shape.filters)]
    ids = [row[2]["id"] for row in rows]
    return None if ids == wanted_ids else f"not the right {len(wanted_ids)} events, but {len(ids)}"
