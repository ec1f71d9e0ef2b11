"""Answering filters: a filled store, every shape of filter, one request after the other.

The latency is a client's: from sending the request until its EOSE (or COUNT) has arrived. Values
differ from request to request. Answers are counted; whether they are the right ones is the
business of tests, but an answer with nothing in it where something must be is a problem here.
"""

import json
import time
from collections.abc import Iterable, Sequence
from typing import Final

from benchmarks.client import Client, Connection, masked_frame
from benchmarks.report import Report, percentile
from benchmarks.server import Server
from relay.protocol.event import Event
from tests.shapes import Shape, Shapes

VARIANTS: Final = 20
"""Requests of one shape with different values."""
SECONDS_PER_SHAPE: Final = 1.0
EMPTY_SHAPES: Final = frozenset(["unknown id", "1,000 absent authors", "nothing wanted"])


def run(server: Server, report: Report, events: Sequence[Event], repeats: int) -> None:
    """Ask for every shape `repeats` times, or until its time is over."""
    by_name: dict[str, list[Shape]] = {}
    source = Shapes(events)
    for _ in range(VARIANTS):
        for shape in source.requests():
            by_name.setdefault(shape.name, []).append(shape)
    counted: dict[str, list[Shape]] = {}
    for _ in range(VARIANTS):
        for shape in source.counts():
            counted.setdefault(shape.name, []).append(shape)
    client = Client(server.host, server.port)
    try:
        connection = client.open()[0]
        client.drain(0.2)  # a challenge, perhaps
        for name, variants in by_name.items():
            _measure(server, report, client, connection, name, "REQ", variants, repeats)
        for name, variants in counted.items():
            _measure(server, report, client, connection, name, "COUNT", variants, repeats)
    finally:
        client.close()


def _measure(
    server: Server,
    report: Report,
    client: Client,
    connection: Connection,
    name: str,
    verb: str,
    variants: Sequence[Shape],
    repeats: int,
) -> None:
    scenario = f"query {name}"
    requests = [masked_frame(_request(verb, shape)) for shape in variants]
    close = masked_frame(b'["CLOSE","q"]')
    last_word = b'["EOSE"' if verb == "REQ" else b'["COUNT"'
    answer: list[bytes] = []
    ended = 0.0

    def handle(_connection: Connection, messages: list[bytes], _arrived: float) -> None:
        nonlocal ended
        # a challenge may come at any time and answers nothing
        answer.extend(each for each in messages if not each.startswith(b'["AUTH"'))
        # now, since what is measured ends with the last byte and not with the first
        ended = time.perf_counter()

    def finished() -> bool:
        return bool(answer) and answer[-1].startswith((last_word, b'["CLOSED"', b'["NOTICE"'))

    latencies: list[float] = []
    rows = 0
    processor = server.processor_seconds()
    end = time.perf_counter() + SECONDS_PER_SHAPE
    while len(latencies) < repeats and (time.perf_counter() < end or len(latencies) < 3):
        answer.clear()
        start = time.perf_counter()
        connection.send(requests[len(latencies) % len(requests)])
        client.pump(finished, handle)
        latencies.append(ended - start)
        rows += _rows(report, scenario, answer, last_word)
        if verb == "REQ":
            connection.send(close)
    processor = server.processor_seconds() - processor
    if verb == "REQ" and not rows and name not in EMPTY_SHAPES:
        report.problem(scenario, "no event was found")
    report.add(scenario, "p50", percentile(latencies, 0.5) * 1e3, "ms")
    report.add(scenario, "p99", percentile(latencies, 0.99) * 1e3, "ms")
    report.add(scenario, "server", processor / len(latencies) * 1e6, "µs/query", "verification")
    if verb == "REQ":
        report.add(scenario, "rows", rows / len(latencies), "events")


def _request(verb: str, shape: Shape) -> bytes:
    return json.dumps([verb, "q", *shape.filters], separators=(",", ":")).encode()


def _rows(report: Report, scenario: str, answer: Iterable[bytes], last_word: bytes) -> int:
    *rows, last = answer
    if not last.startswith(last_word):
        report.problem(scenario, f"refused: {last[:300]!r}")
    strange = [row for row in rows if not row.startswith(b'["EVENT"')]
    if strange:
        report.problem(scenario, f"not an answer: {strange[0][:300]!r}")
    return len(rows)
