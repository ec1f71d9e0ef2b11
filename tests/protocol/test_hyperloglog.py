"""HyperLogLog (NIP-45): where the offset comes from, and what an author does to the registers.

That the registers are those of others is for `tests/vectors/test_hyperloglog.py`.
"""

from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.hyperloglog import REGISTERS, HyperLogLog, offset_of
from relay.protocol.limits import Limits
from relay.protocol.messages import CountMessage, count, parse_message

TARGET = "0123456789abcdef" * 2 + "c" + "0" * 31
"""Its character at position 32 is c, so its offset is 20."""


def of_text(text: str) -> int:
    return int(sha256(text.encode()).hexdigest()[32], 16) + 8


@pytest.mark.parametrize(
    ("filter_", "offset"),
    [
        ({}, None),
        ({"kinds": [3], "authors": [TARGET], "ids": [TARGET], "since": 1, "search": "x"}, None),
        ({"#e": [TARGET], "kinds": [7]}, 20),
        ({"#e": [TARGET], "search": "x"}, None),
        ({"#q": [TARGET.upper()]}, of_text(TARGET.upper())),
        ({"#a": [f"30023:{TARGET}:name"]}, 20),
        ({"#a": [f"30023:{TARGET}:a name: with colons"]}, 20),
        ({"#a": [f"10002:{TARGET}:"]}, 20),
        ({"#a": [f":{TARGET}:"]}, of_text(f":{TARGET}:")),
        ({"#a": [f"x:{TARGET}:y"]}, of_text(f"x:{TARGET}:y")),
        ({"#a": [f"30023:{TARGET}"]}, of_text(f"30023:{TARGET}")),
        ({"#t": ["nostr"]}, of_text("nostr")),
        ({"#t": [""]}, of_text("")),
        ({"#t": [TARGET[1:]]}, of_text(TARGET[1:])),
        ({"#t": [TARGET + "\n"]}, of_text(TARGET + "\n")),
        # the first field and the first value, as they are sent
        ({"#t": ["z", "a"], "#e": [TARGET]}, of_text("z")),
        ({"#e": [TARGET], "#a": ["x"]}, 20),
        ({"#q": [TARGET, "0" * 64]}, 20),
    ],
)
def test_the_offset_is_made_from_the_first_value_of_the_first_tag_condition(
    filter_: dict[str, Any], offset: int | None
) -> None:
    assert offset_of(filter_) == offset


@pytest.mark.parametrize(
    ("sent", "offset"),
    [
        ([{"#t": ["z", "a"], "#e": [TARGET]}], of_text("z")),
        ([{"#e": [TARGET], "#a": ["x"]}], 20),
        ([{}], None),
        # of several filters none is the one that it would be for
        ([{"#e": [TARGET]}, {"#e": [TARGET]}], None),
        ([{"#e": [TARGET]}, {"kinds": [7]}], None),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_count_knows_the_offset_of_its_only_filter(
    sent: list[dict[str, Any]], offset: int | None, *, wrapped: bool
) -> None:
    text = msgspec.json.encode(["COUNT", "q", sent] if wrapped else ["COUNT", "q", *sent])
    message = parse_message(text, Limits())
    assert isinstance(message, CountMessage)
    assert message.offset == offset


def plain(pubkeys: list[str], offset: int) -> bytes:
    """Make the registers as the NIP words it: bytes, and bits one by one."""
    registers = [0] * REGISTERS
    for pubkey in pubkeys:
        raw = bytes.fromhex(pubkey)
        bits = "".join(f"{byte:08b}" for byte in raw[offset + 1 : offset + 8])
        value = len(bits) - len(bits.lstrip("0")) + 1
        registers[raw[offset]] = max(registers[raw[offset]], value)
    return bytes(registers)


keys = st.one_of(
    st.integers(0, (1 << 256) - 1),
    st.integers(0, 255).map(lambda bit: 1 << bit),
    st.just(0),
).map(lambda number: f"{number:064x}")


@given(st.lists(keys, max_size=20), st.integers(8, 23))
def test_the_registers_are_what_the_nip_says(pubkeys: list[str], offset: int) -> None:
    sketch = HyperLogLog(offset)
    for pubkey in pubkeys:
        sketch.add(pubkey)
    assert bytes(sketch.registers) == plain(pubkeys, offset)
    again = HyperLogLog(offset)
    again.add_digits([pubkey.encode()[again.digits] for pubkey in reversed(pubkeys * 2)])
    assert again.registers == sketch.registers


def test_the_answer_carries_512_digits_and_an_exact_count() -> None:
    sketch = HyperLogLog(8)
    answer = msgspec.json.decode(count("q", 3, sketch))
    assert answer == ["COUNT", "q", {"count": 3, "hll": "00" * 256}]
    assert msgspec.json.decode(count("q", 3)) == ["COUNT", "q", {"count": 3}]
