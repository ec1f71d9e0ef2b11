"""All relays' figures of all rounds, and what they say about each other.

Rounds are interleaved: every relay has its turn in each, so that whatever else the machine does
meets all of them. Two relays are compared pair by pair, within one round: of the ratios the median
is told, and the lowest and the highest beside it. A ratio says how many times better the first
relay is: more events per second, or less time or memory.
"""

import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.peers import Peer
from benchmarks.report import Better, Figure, Report, Units

LEAST: Final = 1e-9


class Ratio(NamedTuple):
    """How many times better the first relay is than another."""

    median: float
    lowest: float
    highest: float


class Row:
    """One figure of one scenario, of every relay that has it, in every round."""

    def __init__(self, figure: Figure) -> None:
        self.scenario = figure.scenario
        self.name = figure.name
        self.unit = figure.unit
        self.better = figure.better
        self.per = figure.per
        self.values: dict[str, dict[int, float]] = {}

    def median(self, relay: str) -> float | None:
        """Return the median of all rounds, if there is any."""
        values = self.values.get(relay)
        return statistics.median(values.values()) if values else None

    def ratio(self, relay: str, other: str) -> Ratio | None:
        """Compare two relays round by round."""
        ours, theirs = self.values.get(relay, {}), self.values.get(other, {})
        ratios = [
            self._times_better(ours[number], theirs[number])
            for number in ours.keys() & theirs.keys()
        ]
        if not ratios or self.better is Better.NEITHER:
            return None
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))

    def _times_better(self, ours: float, theirs: float) -> float:
        ours, theirs = max(ours, LEAST), max(theirs, LEAST)
        return ours / theirs if self.better is Better.MORE else theirs / ours


class Comparison:
    """Collects reports. The first of `peers` is the one that the others are compared with."""

    def __init__(self, peers: Sequence[Peer]) -> None:
        self.peers = peers
        self.names = [peer.name for peer in peers]
        self.rows: dict[tuple[str, str], Row] = {}
        self.differences: dict[tuple[str, str], list[str]] = {}
        self.filling: dict[str, str] = {}
        self.conditions: dict[str, object] = {}
        self._units: list[Units] = []
        self._load: list[float] = []

    def take_units(self, units: Units) -> None:
        """Note what a verification and a send cost just now, and how busy the machine is."""
        self._units.append(units)
        self._load.append(os.getloadavg()[0])

    def take(self, relay: str, number: int, report: Report) -> None:
        """Note what a relay has shown in one round."""
        for figure in report.figures:
            key = (figure.scenario, figure.name)
            row = self.rows.setdefault(key, Row(figure))
            row.values.setdefault(relay, {})[number] = figure.value
        for scenario, text in report.differences:
            texts = self.differences.setdefault((scenario, relay), [])
            if text not in texts:
                texts.append(text)

    @property
    def units(self) -> Units:
        """The medians of all that was measured."""
        return Units(*map(statistics.median, zip(*self._units, strict=True)))

    def related(self, row: Row, relay: str) -> float | None:
        """Return a figure in its unit of reference."""
        median = row.median(relay)
        if not row.per or median is None:
            return None
        reference: float = getattr(self.units, row.per)
        return median / reference

    def failed(self) -> list[str]:
        """Return what was wrong with the first relay."""
        return [
            f"{scenario}: {text}"
            for (scenario, relay), texts in self.differences.items()
            if relay == self.names[0]
            for text in texts
        ]

    def compared(self) -> Iterator[Row]:
        """Yield the figures that have a better direction."""
        return (row for row in self.rows.values() if row.better is not Better.NEITHER)

    def document(self) -> dict[str, Any]:
        """Return everything, for a file in JSON."""
        return {
            "machine": {**machine(), "load": [round(load, 2) for load in self._load]},
            "conditions": self.conditions,
            "units_us": self.units._asdict(),
            "relays": [
                {
                    "name": peer.name,
                    "durability": peer.durability,
                    "configuration": peer.configuration,
                    "filled": self.filling.get(peer.name, ""),
                }
                for peer in self.peers
            ],
            "figures": [self._row(row) for row in self.rows.values()],
            "differences": [
                {"scenario": scenario, "relay": relay, "texts": texts}
                for (scenario, relay), texts in self.differences.items()
            ],
        }

    def _row(self, row: Row) -> dict[str, Any]:
        relays = {}
        for name in self.names:
            median = row.median(name)
            if median is None:
                continue
            entry: dict[str, Any] = {
                "rounds": [float(f"{value:.5g}") for value in row.values[name].values()],
                "median": float(f"{median:.5g}"),
            }
            related = self.related(row, name)
            if related is not None:
                entry[f"{row.per}s"] = round(related, 3)
            ratio = row.ratio(self.names[0], name) if name != self.names[0] else None
            if ratio is not None:
                entry[f"{self.names[0]} is better by"] = [round(each, 3) for each in ratio]
            relays[name] = entry
        return {
            "scenario": row.scenario,
            "name": row.name,
            "unit": row.unit,
            "better": row.better.value,
            "relays": relays,
        }


def machine() -> dict[str, Any]:
    """Describe the machine as far as it matters for the figures."""
    information = Path("/proc/meminfo").read_text().split("\n", 1)[0].split()
    virtual = " hypervisor " in Path("/proc/cpuinfo").read_text().replace("\n", " ")
    return {
        "processors": os.cpu_count(),
        "virtual": virtual,
        "memory_gb": round(int(information[1]) / (1 << 20)),
        "system": platform.system(),
        "python": platform.python_version(),
    }
