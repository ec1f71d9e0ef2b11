"""Ids must be those of deployed clients, bit for bit: see `generate` for where these come from."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.protocol.event import Event, canonical_json, computed_id, decode_event

VECTORS: list[dict[str, Any]] = msgspec.json.decode(
    (Path(__file__).parent / "vectors.json").read_bytes()
)


def event_of(vector: dict[str, Any]) -> Event:
    return msgspec.convert({**vector, "sig": "0" * 128}, Event)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"][:8])
def test_the_id_is_that_of_rust_and_javascript_clients(vector: dict[str, Any]) -> None:
    assert computed_id(event_of(vector)) == vector["id"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"][:8])
def test_canonical_json_gives_the_same_event_back(vector: dict[str, Any]) -> None:
    event = event_of(vector)
    raw = canonical_json(event)
    assert decode_event(raw) == event
    assert canonical_json(decode_event(raw)) == raw


def test_every_control_character_and_separator_is_covered() -> None:
    contents = "".join(vector["content"] for vector in VECTORS)
    wanted = {*map(chr, range(0x20)), "\x7f", "\u2028", "\u2029", '"', "\\", "\u0301", "👍"}
    assert wanted <= set(contents)
