"""The texts that name a store."""

from pathlib import Path

import pytest

from relay.errors import ConfigurationError
from relay.store.locate import Location, open_reader, open_writer, parse_location
from relay.store.memory import MemoryStore
from tests.store.making import NOW, note


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("events.sqlite", "events.sqlite"),
        ("/var/lib/relay/events", "/var/lib/relay/events"),
        ("./memory:", "memory:"),
        ("sqlite:///events.sqlite", "events.sqlite"),
        ("sqlite:////var/lib/events", "/var/lib/events"),
        ("a folder/é.db", "a folder/é.db"),
    ],
)
def test_a_path_names_a_sqlite_file(text: str, path: str) -> None:
    assert parse_location(text) == Location(path=Path(path))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sqlite:///",
        "sqlite://events",
        "folder/",
        "postgres://host/name",
        "memory:x",
        "redis:",
        "a\0b",
    ],
)
def test_what_names_no_store_is_refused_with_advice(text: str) -> None:
    with pytest.raises(ConfigurationError, match="sqlite:///PATH or memory:"):
        parse_location(text)


def test_memory_is_shared_within_a_location_only() -> None:
    location = parse_location("memory:")
    assert isinstance(location.memory, MemoryStore)
    open_writer(location).commit([note()], NOW)
    assert open_reader(location).head() == 1
    assert open_reader(parse_location("memory:")).head() == 0


def test_no_location_is_no_store() -> None:
    with pytest.raises(ConfigurationError):
        open_reader(Location())


def test_a_path_is_opened_as_a_sqlite_store(tmp_path: Path) -> None:
    location = parse_location(f"sqlite:///{tmp_path}/events")
    writer = open_writer(location)
    reader = open_reader(location)
    writer.commit([note()], NOW)
    assert reader.head() == 1
    reader.close()
    writer.close()
