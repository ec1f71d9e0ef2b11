"""What the relay counts and measures, in Prometheus' text format.

Nothing is counted here: the session layer keeps plain numbers (`core.Counters`), and a look at the
server gives those that go up and down (`statistics.Statistics`). Both are read when somebody asks.
The tables below are the one definition of every metric; `docs/metrics.md` is made from them.
"""

import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from relay.ops.config import LogLevel
from relay.session.core import Counters, Ending
from relay.session.statistics import Statistics

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Gauge(NamedTuple):
    """A number that goes up and down."""

    name: str
    help: str
    value: Callable[[Statistics], float]


class Tally(NamedTuple):
    """A number that only grows, in parts that a label tells apart; `_total` follows its name."""

    name: str
    help: str
    values: Callable[[Counters], Mapping[str, float]]
    label: str = ""


def _one(value: Callable[[Counters], float]) -> Callable[[Counters], Mapping[str, float]]:
    return lambda counters: {"": value(counters)}


GAUGES: Final = (
    Gauge(
        "relay_connections",
        "Open connections, plain HTTP requests such as the one for this page among them.",
        lambda now: now.connections,
    ),
    Gauge("relay_subscriptions", "Open subscriptions.", lambda now: now.subscriptions),
    Gauge(
        "relay_subscriptions_behind",
        "Live subscriptions that cannot keep up at this moment.",
        lambda now: now.subscriptions_behind,
    ),
    Gauge("relay_tasks", "Trio tasks of the process.", lambda now: now.tasks),
    Gauge(
        "relay_events_unanswered",
        "Events that are being checked or committed, and have no OK yet.",
        lambda now: now.events_unanswered,
    ),
    Gauge(
        "relay_outbox_chunks",
        "Entries in the queues of all connections, each of one or more messages.",
        lambda now: now.outbox_chunks,
    ),
    Gauge(
        "relay_outbox_bytes",
        "Bytes that wait for the peers' sockets.",
        lambda now: now.outbox_bytes,
    ),
    Gauge(
        "relay_backlog_events",
        "Live events that wait for room in those queues, by the back-pressure policy.",
        lambda now: now.backlog_events,
    ),
    Gauge(
        "relay_reconciliations",
        "Open reconciliations (NIP-77).",
        lambda now: now.reconciliations,
    ),
    Gauge(
        "relay_reconciliation_bytes",
        "Memory of what is compared in them, and of what is kept for the next ones.",
        lambda now: now.reconciliation_bytes,
    ),
    Gauge(
        "relay_log_position",
        "The sequence number of the last event that was published.",
        lambda now: now.log_position,
    ),
)

TALLIES: Final = (
    Tally(
        "relay_connections_opened",
        "Connections that were accepted, plain HTTP requests among them.",
        _one(lambda counted: counted.connections),
    ),
    Tally(
        "relay_connections_ended",
        "WebSocket connections that have ended, by how: "
        + ", ".join(f"`{ending}`" for ending in Ending)
        + ".",
        lambda counted: {ending.value: counted.endings[ending] for ending in Ending},
        "ending",
    ),
    Tally(
        "relay_connection_faults",
        "Connections that were ended by a fault of the relay.",
        _one(lambda counted: counted.faults),
    ),
    Tally("relay_messages", "Messages from peers.", _one(lambda counted: counted.messages)),
    Tally(
        "relay_messages_too_late",
        "Messages that came when the relay's Close was on its way; not looked at.",
        _one(lambda counted: counted.messages_too_late),
    ),
    Tally(
        "relay_events",
        "Events from peers, by outcome; those superseded by a newer version are `duplicate`.",
        lambda counted: {
            "stored": counted.events_stored,
            "ephemeral": counted.events_ephemeral,
            "duplicate": counted.events_duplicate,
            "refused": counted.events_refused,
        },
        "outcome",
    ),
    Tally(
        "relay_deliveries",
        "Events that were handed to a connection's writer, stored and live.",
        _one(lambda counted: counted.deliveries),
    ),
    Tally(
        "relay_laggards",
        "Times that a live subscription could not keep up.",
        _one(lambda counted: counted.fell_behind),
    ),
    Tally(
        "relay_events_dropped",
        "Deliveries to laggards that did not take place: `stored` by the policies drop-oldest and "
        "drop-new, `ephemeral` by any.",
        lambda counted: {"stored": counted.dropped, "ephemeral": counted.ephemeral_dropped},
        "kind",
    ),
    Tally(
        "relay_subscriptions_unsettled",
        "Subscriptions that had not been handed everything when the relay closed their connection.",
        _one(lambda counted: counted.subscriptions_unsettled),
    ),
)

LOG_LINES: Final = ("relay_log_lines", "Log lines, by level, written or not.", "level")


class Metrics:
    """The metrics of one server, and of this process."""

    def __init__(
        self,
        counters: Counters,
        statistics: Callable[[], Statistics],
        log_lines: Counter[str],
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Relay(counters, statistics, log_lines))
        ProcessCollector(registry=self._registry)

    def exposition(self) -> bytes:
        """Return all of them in the text format, as they are now."""
        return generate_latest(self._registry)


class _Relay(Collector):
    def __init__(
        self,
        counters: Counters,
        statistics: Callable[[], Statistics],
        log_lines: Counter[str],
    ) -> None:
        self._counters = counters
        self._statistics = statistics
        self._log_lines = log_lines

    def describe(self) -> list[Metric]:
        """Return nothing: what there is need not be known before anybody asks."""
        return []

    def collect(self) -> Iterator[Metric]:
        now = self._statistics()
        for gauge in GAUGES:
            yield GaugeMetricFamily(gauge.name, gauge.help, gauge.value(now))
        for tally in TALLIES:
            yield _family(tally.name, tally.help, tally.label, tally.values(self._counters))
        levels = {level: self._log_lines[level] for level in typing.get_args(LogLevel)}
        yield _family(*LOG_LINES, levels)


def _family(name: str, text: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label] if label else [])
    for part, value in values.items():
        family.add_metric([part] if label else [], value)
    return family
