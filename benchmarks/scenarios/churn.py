"""Coming and going: connect, ask, get one event and EOSE, leave; one peer after the other."""

import time
from typing import Final

import msgspec

from benchmarks.client import Client, Connection, masked_frame
from benchmarks.report import Report, percentile
from benchmarks.server import Server
from tests.corpus import Author, event_message

SCENARIO: Final = "coming and going"
WARM_UP: Final = 20
SETTLE_DEADLINE: Final = 10.0


def run(server: Server, report: Report, cycles: int) -> None:
    """Come and go so many times."""
    event = Author("churn").sign(1, "the only one")
    request = masked_frame(b'["REQ","q",{"ids":["%s"]}]' % event.id.encode())
    client = Client(server.host, server.port)
    try:
        publisher = client.open()[0]
        _exchange(client, publisher, masked_frame(event_message(event)), (b'["OK"',))
        client.drop(publisher)
        for _ in range(WARM_UP):
            _cycle(client, request)
        descriptors = server.descriptors()
        processor, start = server.processor_seconds(), time.perf_counter()
        latencies, wrong = [], 0
        for _ in range(cycles):
            begun = time.perf_counter()
            answer = _cycle(client, request)
            latencies.append(time.perf_counter() - begun)
            wrong += [message[:2] for message in answer] != [["EVENT", "q"], ["EOSE", "q"]]
        elapsed = time.perf_counter() - start
        processor = server.processor_seconds() - processor
    finally:
        client.close()
    end = time.perf_counter() + SETTLE_DEADLINE
    while (left := server.descriptors() - descriptors) > 0 and time.perf_counter() < end:
        time.sleep(0.1)
    if left > 0:
        report.differs(SCENARIO, f"{left} descriptors are still open after {cycles} visits")
    if wrong:
        report.differs(SCENARIO, f"{wrong} of {cycles} answers were not one event and EOSE")
    report.more(SCENARIO, "rate", cycles / elapsed, "visits/s")
    report.less(SCENARIO, "server", processor / cycles * 1e6, "µs/visit", "verification")
    report.less(SCENARIO, "p50", percentile(latencies, 0.5) * 1e3, "ms")
    report.less(SCENARIO, "p99", percentile(latencies, 0.99) * 1e3, "ms")


def _cycle(client: Client, request: bytes) -> list[list[object]]:
    connection = client.open()[0]
    answer = _exchange(client, connection, request, (b'["EOSE"', b'["CLOSED"'))
    client.drop(connection)
    return [msgspec.json.decode(message) for message in answer]


def _exchange(
    client: Client, connection: Connection, frame: bytes, last_words: tuple[bytes, ...]
) -> list[bytes]:
    """Send a frame; return the messages up to the one that begins as the last does."""
    answer: list[bytes] = []

    def handle(_connection: Connection, messages: list[bytes], _arrived: float) -> None:
        answer.extend(each for each in messages if not each.startswith(b'["AUTH"'))

    connection.send(frame)
    client.pump(lambda: bool(answer) and answer[-1].startswith(last_words), handle)
    return answer
