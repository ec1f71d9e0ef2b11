"""What one relay's run of a scenario has shown: figures with names, and what was wrong."""

import enum
from collections.abc import Sequence
from typing import NamedTuple


class Better(enum.Enum):
    """Which direction of a figure is the better one."""

    MORE = "more"
    LESS = "less"
    NEITHER = ""


class Units(NamedTuple):
    """What two unavoidable pieces of work cost on this machine, in µs of processor time."""

    verification: float
    """One Schnorr signature checked by coincurve."""
    send: float
    """One `socket.send` of a small frame."""


class Figure(NamedTuple):
    """One result. `per` names the unit of reference in which it is expressed besides."""

    scenario: str
    name: str
    value: float
    unit: str
    better: Better
    per: str = ""


class Report:
    """Collects the figures of one run, and how the answers differed from what was expected."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.differences: list[tuple[str, str]] = []

    def more(self, scenario: str, name: str, value: float, unit: str) -> None:
        """Note a figure of which more is better."""
        self.figures.append(Figure(scenario, name, value, unit, Better.MORE))

    def less(self, scenario: str, name: str, value: float, unit: str, per: str = "") -> None:
        """Note a figure of which less is better; `per` is `verification`, `send`, or nothing."""
        self.figures.append(Figure(scenario, name, value, unit, Better.LESS, per))

    def note(self, scenario: str, name: str, value: float, unit: str) -> None:
        """Note a figure that only explains the others."""
        self.figures.append(Figure(scenario, name, value, unit, Better.NEITHER))

    def differs(self, scenario: str, text: str) -> None:
        """Note that the relay did not do what was expected, which its speed has to be seen by."""
        self.differences.append((scenario, text))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of all values lie; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
