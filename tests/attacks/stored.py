"""A store full of events that nobody has signed: only the relay's door checks signatures."""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from relay.protocol.event import Event, Record, record
from relay.store.sqlite.writer import SQLiteWriter
from tests.corpus import START

AUTHORS: Final = 1_000
TOPICS: Final = 200
KINDS: Final = (0, 1, 1, 6, 7, 30023)
_LATER: Final = START + 100_000_000
_BATCH: Final = 1_000


def key(number: int) -> str:
    """Return a public key or an id; which are in the store, `events` decides."""
    return f"{number:064x}"


def events(count: int) -> Iterator[Record]:
    """Yield events that a few filters match in great numbers, two to a second."""
    source = random.Random("stored")
    for number in range(count):
        tags = (
            ("t", f"topic{source.randrange(TOPICS)}"),
            ("p", key(source.randrange(AUTHORS))),
            ("e", key(source.getrandbits(256))),
            ("d", str(number)),
        )
        yield record(
            Event(
                key(source.getrandbits(256)),
                # replaceable ones take the place of their author's earlier ones: as in life
                key(source.randrange(AUTHORS)),
                START + number // 2,
                source.choice(KINDS),
                tags,
                "x" * 200,
                "0" * 128,
            )
        )


def fill(path: Path, count: int) -> None:
    """Make a store at `path` that holds `events`."""
    writer = SQLiteWriter(path)
    try:
        made = events(count)
        while batch := list(islice(made, _BATCH)):
            writer.commit(batch, _LATER)
        writer.maintain()
    finally:
        writer.close()
