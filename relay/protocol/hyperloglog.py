"""NIP-45: 256 small registers from which a client estimates how many authors there are.

What is counted with one relay and with another overlaps. Registers can be merged: of each, the
larger value. For that all relays must take the same bytes of a public key, which the *offset* says.
It is made from the filter as it was sent, of which `Filter` keeps neither the order of the fields
nor that of their values.

The byte of the public key at the offset names the register. The zero bits before the first one in
the seven bytes behind it, plus one, are the value; the largest stays. (The text of the NIP names no
end; foreign implementations take these seven. No key differs that anybody could find.)

`tests/vectors/hyperloglog.json` holds what a foreign implementation makes of the same filters and
keys.
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

from relay.protocol.event import is_hex64

REGISTERS: Final = 256

_LETTER_FIELD: Final = re.compile(r"#[a-zA-Z]").fullmatch

_ADDRESS: Final = re.compile(r"[0-9]+:([0-9a-f]{64}):").match
_DIGIT: Final = 32
_FIRST_OFFSET: Final = 8
_WIDTH: Final = 16
"""Hexadecimal digits: of the register's byte, and of the seven behind it."""
_VALUE_BITS: Final = 56
_VALUE_MASK: Final = (1 << _VALUE_BITS) - 1


def offset_of(filter_: Mapping[str, object]) -> int | None:
    """Return the offset for a valid filter, as decoded from what was sent; `None`: it has none.

    Only filters with a tag condition have one, and of several the first is taken. A search has
    none: which events it finds is each relay's own affair (NIP-50).
    """
    if "search" in filter_:
        return None
    for field, values in filter_.items():
        if _LETTER_FIELD(field) and isinstance(values, list) and isinstance(values[0], str):
            return int(_as_hex(values[0])[_DIGIT], 16) + _FIRST_OFFSET
    return None


def _as_hex(value: str) -> str:
    if is_hex64(value):
        return value
    address = _ADDRESS(value)
    if address is not None:
        return address[1]
    return sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


class HyperLogLog:
    """The registers for one filter."""

    def __init__(self, offset: int) -> None:
        """Make them for an `offset` from 8 to 23."""
        self.digits = slice(2 * offset, 2 * offset + _WIDTH)
        """Those hexadecimal digits of a public key that matter."""
        self.registers = bytearray(REGISTERS)

    def add(self, pubkey: str) -> None:
        """Add an author."""
        self.add_digits([pubkey[self.digits]])

    def add_digits(self, authors: Iterable[str | bytes]) -> None:
        """Add authors of whom only `digits` are given (0.3 µs each)."""
        registers = self.registers
        for digits in authors:
            number = int(digits, 16)
            value = _VALUE_BITS + 1 - (number & _VALUE_MASK).bit_length()
            register = number >> _VALUE_BITS
            if value > registers[register]:
                registers[register] = value

    def hex(self) -> str:
        """Return the registers as they are sent."""
        return self.registers.hex()
