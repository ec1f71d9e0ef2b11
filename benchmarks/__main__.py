"""`python -m benchmarks`: measures this relay, and others beside it, over loopback.

    python -m benchmarks --quick                        this relay alone, in under two minutes
    python -m benchmarks --peer strfry --peer other=/path/to/program

Every relay runs in processes of its own and is asked by the same client about the same events. In
each round every relay has its turn, with a fresh store (for queries: the same filled store).
"""

import argparse
import json
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.client import ConnectionEnded, Stalled
from benchmarks.comparison import Comparison
from benchmarks.document import markdown
from benchmarks.peers import Ours, Peer, parse_peer, read_events
from benchmarks.plot import svg
from benchmarks.report import Report
from benchmarks.scenarios import churn, fanout, filters, idle, ingest, queries
from benchmarks.server import Server, fresh_server, serving
from benchmarks.stored import stored_events
from benchmarks.units import measure_units
from relay.protocol.event import Event
from tests.corpus import short_notes, traffic_list

FAILURES: Final = (AssertionError, ConnectionEnded, OSError, RuntimeError, Stalled)
NOW_MARGIN: Final = 3_600
"""Live events are so many seconds old."""

Scenario = Callable[[Server, Report], None]


class Run:
    """One run: its options, its relays, and the scenarios that it can be asked for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.peers: list[Peer] = [Ours(options.config), *options.peer]
        self.comparison = Comparison(self.peers)
        self.comparison.conditions["rounds"] = options.rounds
        self.scenarios: dict[str, Callable[[], None]] = {
            "ingest": self.ingest,
            "fanout": self.fan_out,
            "filters": self.filters,
            "queries": self.queries,
            "idle": self.idle,
            "churn": self.churn,
        }

    def ingest(self) -> None:
        """Publish short notes and mixed kinds, each into an empty store."""
        count = self.options.events
        self.comparison.conditions["events taken in"] = count
        notes = list(short_notes(count))
        self._in_turns(partial(ingest.run, name="short notes", events=notes))
        mixed = traffic_list(count, processes=2)
        self._in_turns(partial(ingest.run, name="mixed kinds", events=mixed))

    def fan_out(self) -> None:
        """Deliver from one publisher to many subscribers who want everything."""
        for subscribers in self.options.subscribers:
            events = self._live(subscribers, self._fan_out_events(subscribers))
            self._in_turns(partial(fanout.run, subscribers=subscribers, events=events))

    def filters(self) -> None:
        """Deliver to few of many subscribers, and to none."""
        options = self.options
        make = partial(self._live, count=options.live)
        self._in_turns(partial(filters.run_few, subscriptions=options.subscriptions, make=make))
        self._in_turns(partial(filters.run_none, counts=options.quiet, make=make))

    def queries(self) -> None:
        """Ask for every shape of filter at filled stores."""
        options, comparison = self.options, self.comparison
        with (
            tempfile.TemporaryDirectory(prefix="relay-") as temporary,
            ExitStack() as opened,
        ):
            folder = Path(temporary)
            running: dict[str, ExitStack] = {}

            def start(name: str) -> Server:
                if name in running:
                    running[name].close()
                running[name] = opened.enter_context(ExitStack())
                peer = next(peer for peer in self.peers if peer.name == name)
                return running[name].enter_context(serving(peer, folder / name))

            path = (options.data or folder) / f"mixed-{options.stored}.jsonl"
            stored = stored_events(options.stored, path)
            comparison.conditions["events stored for queries"] = stored.total
            servers: dict[str, Server] = {}
            rounds: list[dict[str, Report]] = [
                {peer.name: Report() for peer in self.peers} for _ in range(options.rounds)
            ]
            for peer in self.peers:
                directory = folder / peer.name
                directory.mkdir()
                try:
                    self._fill(peer, directory, stored.lines)
                    servers[peer.name] = start(peer.name)
                except FAILURES as error:
                    rounds[0][peer.name].differs("queries", f"not filled: {error}"[:300])
                else:
                    started = servers[peer.name].started * 1e3
                    rounds[0][peer.name].less("with the filled store", "starting", started, "ms")
            self._look()
            seconds = 0.3 if options.quick else 1.0
            queries.run(
                servers, start, rounds, stored.sample, stored.oracle(), options.repeats, seconds
            )
            self._look()
            for number, by_name in enumerate(rounds):
                for name, report in by_name.items():
                    comparison.take(name, number, report)

    def idle(self) -> None:
        """Let connections wait."""
        self._in_turns(partial(idle.run, connections=self.options.connections))

    def churn(self) -> None:
        """Let peers come and go."""
        self._in_turns(partial(churn.run, cycles=self.options.visits))

    def _in_turns(self, scenario: Scenario) -> None:
        """Run a scenario with every relay in every round, each time with a fresh store."""
        for number in range(self.options.rounds):
            self._look()
            for peer in self.peers:
                report = Report()
                try:
                    with fresh_server(peer) as server:
                        scenario(server, report)
                except FAILURES as error:
                    report = Report()
                    report.differs(_name(scenario), f"{type(error).__name__}: {error}")
                self.comparison.take(peer.name, number, report)

    def _look(self) -> None:
        self.comparison.take_units(measure_units())

    def _fill(self, peer: Peer, directory: Path, lines: Path) -> None:
        """Fill a relay's store."""
        begun = time.perf_counter()
        if peer.quick_filling:
            peer.fill(directory, lines)
        else:
            with serving(peer, directory) as server:
                ingest.fill(server, list(read_events(lines)))
        how = peer.quick_filling or "publishing"
        self.comparison.filling[peer.name] = f"{how}, {time.perf_counter() - begun:.0f} s"

    def _fan_out_events(self, subscribers: int) -> int:
        least = 2 * fanout.BURST
        deliveries = 200_000 if self.options.quick else 400_000
        count = max(least, min(self.options.live, deliveries // subscribers))
        whole: int = count // least * least
        return whole

    def _live(self, seed: int, count: int) -> list[Event]:
        """Return notes of the present, as live events are."""
        return list(short_notes(count, seed=seed, start=int(time.time()) - NOW_MARGIN))


def _name(scenario: Scenario) -> str:
    function = getattr(scenario, "func", scenario)
    told = getattr(scenario, "keywords", {})
    values = [str(value) for value in told.values() if isinstance(value, str | int)]
    return " ".join([function.__module__.rpartition(".")[2], *values])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        type=parse_peer,
        metavar="NAME[=PROGRAM]",
        help="a relay to measure beside this one; may be repeated",
    )
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--rounds", type=int, help="turns of every relay (1 if quick, else 3)")
    parser.add_argument(
        "--scenario",
        action="append",
        choices=["ingest", "fanout", "filters", "queries", "idle", "churn"],
        help="only this; may be repeated",
    )
    parser.add_argument("--events", type=int, help="events to take in")
    parser.add_argument("--stored", type=int, help="events in the stores that are queried")
    parser.add_argument("--data", type=Path, help="where to keep the events for filled stores")
    parser.add_argument(
        "--subscribers", type=int, action="append", help="fan-out to so many; may be repeated"
    )
    parser.add_argument("--live", type=int, help="events to publish to those who listen")
    parser.add_argument("--visits", type=int, help="peers that come and go")
    parser.add_argument("--repeats", type=int, help="requests of each shape in a round")
    parser.add_argument("--subscriptions", type=int, help="filters of which few match")
    parser.add_argument(
        "--quiet", type=int, action="append", help="filters of which none match; may be repeated"
    )
    parser.add_argument("--connections", type=int, help="idle connections")
    parser.add_argument("--config", type=Path, help="a configuration file for this relay")
    parser.add_argument(
        "--output", type=Path, help="write results.json, results.md and results.svg to this folder"
    )
    options = parser.parse_args(arguments)
    quick = options.quick
    defaults: dict[str, object] = {
        "rounds": 1 if quick else 3,
        "events": 10_000 if quick else 30_000,
        "stored": 20_000 if quick else 200_000,
        "live": 400 if quick else 800,
        "visits": 300 if quick else 2_000,
        "repeats": 40 if quick else 200,
        "subscribers": [1, 500] if quick else [1, 500, 5_000],
        "subscriptions": 500 if quick else 5_000,
        "quiet": [10, 1_000] if quick else [10, 1_000, 10_000],
        "connections": 500 if quick else 5_000,
    }
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 when this relay did not do what it must."""
    options = parse(arguments)
    # a connection is a descriptor, here and in the relay, which inherits the limit
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # ending it ends the relays that it has started
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    run = Run(options)
    for name in options.scenario or run.scenarios:
        begun = time.perf_counter()
        run.scenarios[name]()
        print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    drawn = options.output is not None and len(run.peers) > 1
    page = markdown(run.comparison, "results.svg" if drawn else None)
    print(page)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        document = json.dumps(run.comparison.document(), indent=1, ensure_ascii=False)
        (options.output / "results.json").write_text(document + "\n", encoding="utf-8")
        (options.output / "results.md").write_text(page, encoding="utf-8")
        if drawn:
            (options.output / "results.svg").write_text(svg(run.comparison), encoding="utf-8")
    for text in run.comparison.failed():
        print(f"WRONG {text}", file=sys.stderr)
    return 1 if run.comparison.failed() else 0


if __name__ == "__main__":
    sys.exit(main())
