"""Waiting: what a connection with one subscription costs while nothing happens.

A few connections come and go first, for what a process sets up once. Memory is that of the whole
process tree. What is still held some seconds after closing may be the allocator's; so everything
is opened and closed a second time, after which a relay that forgets its connections holds no more
than before.
"""

import time
from typing import Final, Self

from benchmarks.client import Client
from benchmarks.report import Report
from benchmarks.server import Server

WARM_UP: Final = 20
SETTLE_DEADLINE: Final = 10.0
TIDYING: Final = 6.0
"""Seconds that a relay has for giving memory back."""
REQUEST: Final = b'{"kinds":[1],"authors":["%s"],"limit":0}' % (b"ab" * 32)


def run(server: Server, report: Report, connections: int) -> None:
    """Open connections, look, close them, look again; and once more."""
    scenario = f"{connections:,} idle connections"
    with _Waiting(server, WARM_UP):
        pass
    before, descriptors_before = server.memory(), server.descriptors()
    with _Waiting(server, connections) as waiting:
        during, descriptors = server.memory(), server.descriptors()
        processor = server.processor_seconds()
        waiting.client.drain(1.0)
        processor = server.processor_seconds() - processor
    time.sleep(TIDYING)
    after = server.memory()
    with _Waiting(server, connections):
        pass
    time.sleep(TIDYING)
    second = server.memory()
    descriptors_after = server.descriptors()
    missing = connections - (descriptors - descriptors_before)
    if missing > 0:
        report.differs(scenario, f"{missing} connections are not open at the server")
    if descriptors_after > descriptors_before:
        left = descriptors_after - descriptors_before
        report.differs(scenario, f"{left} descriptors are still open after closing")

    def each(difference: int) -> float:
        return difference / 1024 / connections

    unit = "kB/connection"
    report.less(scenario, "unique memory", each(during.unique - before.unique), unit)
    report.less(scenario, "resident memory", each(during.resident - before.resident), unit)
    report.more(scenario, "opened", connections / waiting.seconds, "connections/s")
    report.less(scenario, "kept after closing", each(after.unique - before.unique), unit)
    report.note(scenario, "grown by a second round", each(second.unique - after.unique), unit)
    report.note(scenario, "before the first", before.unique / (1 << 20), "MB")
    report.note(scenario, "descriptors", descriptors, "")
    report.note(scenario, "descriptors after closing", descriptors_after, "")
    report.note(scenario, "threads", server.threads(), "")
    report.note(scenario, "server busy while idle", processor, "processors")


class _Waiting:
    """Connections with a subscription each, for the length of a block."""

    def __init__(self, server: Server, connections: int) -> None:
        self._server = server
        self._connections = connections
        self.client = Client(server.host, server.port)
        self.seconds = 0.0
        self._before = 0

    def __enter__(self) -> Self:
        self._before = self._server.descriptors()
        start = time.perf_counter()
        try:
            self.client.subscribe(self.client.open(self._connections), REQUEST)
        except BaseException:
            self.client.close()
            raise
        self.seconds = time.perf_counter() - start
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.close()
        self._settle()

    def _settle(self) -> None:
        """Wait until the server has closed its ends, too, or until it plainly will not."""
        end = time.perf_counter() + SETTLE_DEADLINE
        while time.perf_counter() < end and self._server.descriptors() > self._before:
            time.sleep(0.1)
        time.sleep(0.5)
