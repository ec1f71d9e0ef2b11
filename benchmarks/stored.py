"""Events for filled stores: written to a file once, read from it by every relay.

However many they are, only a sample of them is held in memory, from which requests take their
values. Ephemeral events are left out, since no relay keeps them for long.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.peers import read_events
from relay.protocol.event import Event, canonical_json, is_ephemeral
from tests.corpus import traffic, traffic_list
from tests.oracle import Oracle

SAMPLE: Final = 50_000
MOST_FOR_ORACLE: Final = 250_000
MOST_IN_MEMORY: Final = 100_000


class Stored(NamedTuple):
    """A file of events, one to a line, and a sample of what is in it."""

    lines: Path
    total: int
    sample: list[Event]

    def oracle(self) -> Oracle | None:
        """Return a plain store of all of them, unless they are too many for it."""
        return Oracle(read_events(self.lines)) if self.total <= MOST_FOR_ORACLE else None


def stored_events(count: int, path: Path) -> Stored:
    """Return the mixed stream's first `count` events, from a file that is made if it is missing."""
    if not path.exists():
        partial = path.with_suffix(".partial")
        with partial.open("wb") as lines:
            for event in _stream(count):
                if not is_ephemeral(event.kind):
                    lines.write(canonical_json(event) + b"\n")
        partial.rename(path)
    every = max(1, count // SAMPLE)
    total = 0
    sample = []
    for event in read_events(path):
        if total % every == 0:
            sample.append(event)
        total += 1
    return Stored(path, total, sample)


def _stream(count: int) -> Iterator[Event]:
    if count > MOST_IN_MEMORY:
        return traffic(count)
    return iter(traffic_list(count, processes=2))
