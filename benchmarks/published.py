"""What strfry has cost beside this relay, for runs without it.

Measured once, on a machine of two processors with the same client. Costs are kept in units of one
signature verification or one send of that machine, and so can be expressed in those of this one;
waiting times are strfry's own: it polls its database file for what is new.
"""

from typing import Final, NamedTuple

from benchmarks.comparison import Comparison, Row


class Known(NamedTuple):
    """A published figure: the least and the most, and in which unit of reference."""

    scenario: str
    name: str
    least: float
    most: float
    per: str = ""


STRFRY: Final = (
    Known("ingest, short notes", "server", 5.0, 5.0, "verification"),
    Known("ingest, mixed kinds", "server", 10.0, 10.0, "verification"),
    Known("fan-out to 500, singles", "server", 1.5, 1.9, "send"),
    Known("fan-out to 500, bursts of 20", "server", 1.0, 1.2, "send"),
    Known("fan-out to 500, singles", "latency p50", 63.0, 63.0),
    Known("fan-out to 500, singles", "latency p99", 150.0, 150.0),
    Known("query kind 1, 500", "p50", 1.6, 2.7),
    Known("query everything 500", "p50", 1.6, 2.7),
    Known("1,000 idle connections", "unique memory", 69.0, 69.0),
)


def published(comparison: Comparison) -> list[tuple[Known, Row, float, float]]:
    """Return the figures of this run of which one is published, with the published range."""
    found = []
    for known in STRFRY:
        row = comparison.rows.get((known.scenario, known.name))
        if row is not None and row.median(comparison.names[0]) is not None:
            reference = getattr(comparison.units, known.per) if known.per else 1.0
            found.append((known, row, known.least * reference, known.most * reference))
    return found
