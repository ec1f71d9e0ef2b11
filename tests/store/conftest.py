"""The stores that the conformance suite runs against. A further store is one more entry here."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.store.api import EventReader, EventWriter
from relay.store.locate import Location, open_reader, open_writer, parse_location
from relay.store.sqlite.writer import SQLiteWriter


class OpenStore:
    """A store under test: its writer, a reader, and the way to open it again."""

    writer: EventWriter
    reader: EventReader

    def __init__(self, location: Location) -> None:
        self.location = location
        self.open()

    def open(self) -> None:
        self.writer = open_writer(self.location)
        self.reader = open_reader(self.location)
        if isinstance(self.writer, SQLiteWriter):
            # Nobody pulls the plug here, and a busy disk would make the suite slow.
            self.writer._connection.pragma("synchronous", "off")

    def reopen(self) -> None:
        self.close()
        self.open()

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


def memory_store(_folder: Path) -> OpenStore:
    return OpenStore(parse_location("memory:"))


def sqlite_store(folder: Path) -> OpenStore:
    return OpenStore(parse_location(str(folder / "store.sqlite")))


STORES: dict[str, Callable[[Path], OpenStore]] = {"memory": memory_store, "sqlite": sqlite_store}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    opened = STORES[request.param](tmp_path)
    yield opened
    opened.close()
