"""`python -m benchmarks`: measures a relay in a process of its own, over loopback."""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.client import ConnectionEnded, Stalled
from benchmarks.report import Report
from benchmarks.scenarios import fanout, idle, ingest, queries
from benchmarks.server import Server, fresh_server
from benchmarks.units import measure_units
from tests.corpus import short_notes, traffic_list

QUICK_EVENTS: Final = 20_000
FULL_EVENTS: Final = 200_000
NOW_MARGIN: Final = 3_600


class Run:
    """One run: its options, and the scenarios that it can be asked for."""

    def __init__(self, options: argparse.Namespace, report: Report) -> None:
        self.options = options
        self.report = report
        self.scenarios: dict[str, Callable[[], None]] = {
            "ingest": self.ingest,
            "fanout": self.fan_out,
            "queries": self.queries,
            "idle": self.idle,
        }

    def ingest(self) -> None:
        """Publish short notes and mixed kinds, each into an empty store."""
        count = self.options.events
        with self._server() as server:
            ingest.run(server, self.report, "short notes", list(short_notes(count)))
        with self._server() as server:
            ingest.run(server, self.report, "mixed kinds", traffic_list(count, processes=2))

    def fan_out(self) -> None:
        """Deliver from one publisher to many subscribers."""
        for subscribers in self.options.subscribers:
            with self._server() as server:
                # at the present time, as live events are
                start = int(time.time()) - NOW_MARGIN
                count = self._live_events(subscribers)
                events = list(short_notes(count, seed=subscribers, start=start))
                fanout.run(server, self.report, subscribers, events)

    def queries(self) -> None:
        """Ask for every shape of filter at a filled store."""
        events = traffic_list(self.options.events, processes=2)
        with self._server() as server:
            ingest.fill(server, events)
            queries.run(server, self.report, events, 50 if self.options.quick else 500)

    def idle(self) -> None:
        """Let connections wait."""
        with self._server() as server:
            idle.run(server, self.report, self.options.connections)

    def _live_events(self, subscribers: int) -> int:
        most = 400 if self.options.quick else 2_000
        least = 2 * fanout.BURST
        deliveries = 200_000 if self.options.quick else 2_000_000
        count = max(least, min(most, deliveries // subscribers))
        return count // least * least

    @contextmanager
    def _server(self) -> Iterator[Server]:
        if self.options.pid is not None:
            yield Server("127.0.0.1", self.options.port, self.options.pid)
            return
        arguments = [] if self.options.config is None else ["--config", str(self.options.config)]
        with fresh_server(arguments) as server:
            yield server


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, in two minutes")
    parser.add_argument(
        "--scenario",
        action="append",
        choices=["ingest", "fanout", "queries", "idle"],
        help="only this; may be given several times",
    )
    parser.add_argument("--events", type=int, help="events to take in and to query")
    parser.add_argument(
        "--subscribers", type=int, action="append", help="fan-out to so many; may be repeated"
    )
    parser.add_argument("--connections", type=int, default=1_000, help="idle connections")
    parser.add_argument("--config", type=Path, help="a configuration file for the relay")
    parser.add_argument("--json", type=Path, help="write the results to this file, too")
    parser.add_argument(
        "--port", type=int, help="measure the relay that runs on this loopback port; needs --pid"
    )
    parser.add_argument("--pid", type=int, help="the process (tree) of the relay at --port")
    options = parser.parse_args(arguments)
    if (options.port is None) != (options.pid is None):
        parser.error("--port and --pid belong together")
    if options.events is None:
        options.events = QUICK_EVENTS if options.quick else FULL_EVENTS
    if options.subscribers is None:
        options.subscribers = [1, 500] if options.quick else [1, 500, 5_000]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 when the relay did not do what it must."""
    options = parse(arguments)
    # a connection is a descriptor, here and in the relay, which inherits the limit
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report = Report(measure_units())
    run = Run(options, report)
    for name in options.scenario or run.scenarios:
        try:
            run.scenarios[name]()
        except (AssertionError, ConnectionEnded, RuntimeError, Stalled) as error:
            report.problem(name, f"{type(error).__name__}: {error}")
    report.print()
    if options.json is not None:
        report.write(options.json)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
