"""Results: numbers with names, beside what one signature check and one send cost here."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Units(NamedTuple):
    """What two unavoidable pieces of work cost on this machine, in µs of processor time."""

    verification: float
    """One Schnorr signature checked by coincurve."""
    send: float
    """One `socket.send` of a small frame."""


class Measure(NamedTuple):
    """One result. `per` tells in which unit of reference it is expressed besides."""

    scenario: str
    name: str
    value: float
    unit: str
    per: str = ""


class Report:
    """Collects measures and problems; a run with a problem has failed."""

    def __init__(self, units: Units) -> None:
        self.units = units
        self.measures: list[Measure] = []
        self.problems: list[str] = []

    @classmethod
    def unmeasured(cls) -> "Report":
        """Return a report for work that only prepares: its problems count, its figures do not."""
        return cls(Units(1.0, 1.0))

    def add(self, scenario: str, name: str, value: float, unit: str, per: str = "") -> None:
        """Note a result; `per` is `verification`, `send`, or nothing."""
        self.measures.append(Measure(scenario, name, value, unit, per))

    def problem(self, scenario: str, text: str) -> None:
        """Note that the relay did not do what it must, so that its speed says nothing."""
        self.problems.append(f"{scenario}: {text}")

    def print(self) -> None:
        """Print tables, one for each set of scenarios with the same measures; then problems."""
        print(
            f"one verification: {self.units.verification:.1f} µs, "
            f"one send: {self.units.send:.1f} µs"
        )
        by_scenario: dict[str, list[Measure]] = {}
        for measure in self.measures:
            by_scenario.setdefault(measure.scenario, []).append(measure)
        tables: dict[tuple[str, ...], list[list[str]]] = {}
        for scenario, measures in by_scenario.items():
            heading, row = ["scenario"], [scenario]
            for measure in measures:
                heading.append(f"{measure.name} {measure.unit}".rstrip())
                row.append(_readable(measure.value))
                ratio = self._ratio(measure)
                if ratio is not None:
                    heading.append(f"= {measure.per}s")
                    row.append(f"{ratio:.2f}")
            tables.setdefault(tuple(heading), []).append(row)
        for heading_row, rows in tables.items():
            _print_table([list(heading_row), *rows])
        for text in self.problems:
            print(f"PROBLEM {text}", file=sys.stderr)

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        document = {
            "machine": {
                "python": platform.python_version(),
                "system": platform.system(),
                "processors": os.cpu_count(),
            },
            "units_us": self.units._asdict(),
            "measures": [
                {**measure._asdict(), "related": self._ratio(measure)} for measure in self.measures
            ],
            "problems": self.problems,
        }
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _ratio(self, measure: Measure) -> float | None:
        if not measure.per:
            return None
        reference: float = getattr(self.units, measure.per)
        return round(measure.value / reference, 3)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([f"{first:<{widths[0]}}", *cells]))


def _readable(value: float) -> str:
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.1f}"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of all values lie; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
