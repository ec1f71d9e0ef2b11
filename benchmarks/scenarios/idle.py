"""Waiting: what a connection with one subscription costs while nothing happens.

Half of the connections are opened first and do not count: they pay for buffers and caches that a
process allocates once. Memory is that of the whole process tree, unique and resident.
"""

import time
from typing import Final

from benchmarks.client import Client
from benchmarks.report import Report
from benchmarks.server import Server

SETTLE_DEADLINE: Final = 5.0


def run(server: Server, report: Report, connections: int) -> None:
    """Open connections, look, close them, and look again."""
    scenario = f"{connections} idle connections"
    warm = Client(server.host, server.port)
    client = Client(server.host, server.port)
    request = b'{"kinds":[1],"authors":["%s"],"limit":0}' % (b"ab" * 32)
    try:
        warm.subscribe(warm.open(connections // 2), request)
        warm.close()
        _settle(server)
        before, descriptors_before = server.memory(), server.descriptors()
        start = time.perf_counter()
        opened = client.open(connections)
        client.subscribe(opened, request)
        elapsed = time.perf_counter() - start
        during, descriptors = server.memory(), server.descriptors()
        processor = server.processor_seconds()
        client.drain(1.0)
        processor = server.processor_seconds() - processor
        dropped = connections - (descriptors - descriptors_before)
    finally:
        client.close()
    _settle(server)
    after, descriptors_after = server.memory(), server.descriptors()
    if dropped > 0:
        report.problem(scenario, f"{dropped} connections are not open at the server")
    if descriptors_after > descriptors_before:
        left = descriptors_after - descriptors_before
        report.problem(scenario, f"{left} descriptors are still open after closing")
    kilobytes = 1024 * connections
    report.add(scenario, "opened", connections / elapsed, "connections/s")
    report.add(scenario, "unique", (during.unique - before.unique) / kilobytes, "kB/connection")
    report.add(
        scenario, "resident", (during.resident - before.resident) / kilobytes, "kB/connection"
    )
    report.add(
        scenario, "kept after closing", (after.unique - before.unique) / kilobytes, "kB/connection"
    )
    report.add(scenario, "descriptors", descriptors, "")
    report.add(scenario, "descriptors after closing", descriptors_after, "")
    report.add(scenario, "threads", server.threads(), "")
    report.add(scenario, "server busy", processor, "")


def _settle(server: Server) -> None:
    """Wait until the server has closed what was left to it, or until it plainly will not."""
    previous = -1
    end = time.perf_counter() + SETTLE_DEADLINE
    while time.perf_counter() < end and (now := server.descriptors()) != previous:
        previous = now
        time.sleep(0.5)
