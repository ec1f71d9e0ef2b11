"""Registers must be those of deployed clients, bit for bit: see `generate_hyperloglog`."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.protocol.hyperloglog import HyperLogLog, offset_of
from tests.vectors.generate_hyperloglog import pubkeys_of

VECTORS: list[dict[str, Any]] = msgspec.json.decode(
    (Path(__file__).parent / "hyperloglog.json").read_bytes()
)


@pytest.mark.parametrize(
    "vector", VECTORS, ids=lambda vector: msgspec.json.encode(vector["filter"])
)
def test_the_registers_are_those_of_a_javascript_client(vector: dict[str, Any]) -> None:
    offset = offset_of(vector["filter"])
    assert offset is not None
    assert offset == vector["offset"]
    sketch = HyperLogLog(offset)
    for pubkey in pubkeys_of(vector["seed"], vector["count"]):
        sketch.add(pubkey)
    assert sketch.hex() == vector["hll"]


def test_every_offset_and_many_values_are_covered() -> None:
    assert {vector["offset"] for vector in VECTORS} == set(range(8, 24))
    values = {value for vector in VECTORS for value in bytes.fromhex(vector["hll"])}
    assert values >= set(range(20)) | {max(values)}
    assert max(values) >= 40
