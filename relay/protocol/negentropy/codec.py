"""The bytes of the Negentropy Protocol V1 (NIP-77, appendix): read, checked, written.

    message   0x61, then ranges, each from the upper bound of the one before it
    range     upper bound, mode, and what the mode says
    bound     time as the distance from the time before it (0 is infinity), id prefix

A place between items is a *key*: 8 bytes of time, big-endian, then as much of an id as is needed.
Items are keys with the whole id, 40 bytes, and compare as NIP-77 orders them. A shorter key stands
before everything that begins with it, which is what the absent bytes, being 0, mean.

`Reader` is for what a peer has sent: whatever is wrong with it is `MalformedMessage`, and it reads
no more than there is. Times beyond 64 bits are infinity. Bounds that go down are refused: no
implementation sends them, and nobody could say which range is meant.
"""

from typing import Final

VERSION: Final = b"\x61"
"""Protocol version 1."""
ID_BYTES: Final = 32
TIME_BYTES: Final = 8
ITEM_BYTES: Final = TIME_BYTES + ID_BYTES
FINGERPRINT_BYTES: Final = 16

SKIP: Final = 0
FINGERPRINT: Final = 1
ID_LIST: Final = 2

FIRST: Final = bytes(TIME_BYTES)
"""The key before everything."""
INFINITY: Final = b"\xff" * TIME_BYTES
"""The key behind everything."""

_INFINITE_TIME: Final = (1 << 64) - 1
_LONGEST_VARINT: Final = 10
_SMALL: Final = tuple([bytes([number]) for number in range(128)])


class MalformedMessage(ValueError):
    """A message is not of the protocol. The text says what is wrong with it."""


def varint(number: int) -> bytes:
    """Return a natural number in base 128, the most significant digit first."""
    if number < 128:
        return _SMALL[number]
    digits = [number & 127]
    while number := number >> 7:
        digits.append(number & 127 | 128)
    digits.reverse()
    return bytes(digits)


def dividing_key(before: bytes, after: bytes) -> bytes:
    """Return the shortest key that is above one item and not above the next."""
    if before[:TIME_BYTES] != after[:TIME_BYTES]:
        return after[:TIME_BYTES]
    length = TIME_BYTES
    while before[length] == after[length]:
        length += 1
    return after[: length + 1]


class Bounds:
    """Writes the bounds of one message, in ascending order."""

    __slots__ = ("_time",)

    def __init__(self) -> None:
        self._time = 0

    def write(self, key: bytes) -> bytes:
        """Return the encoding of a bound; the next one is relative to it."""
        prefix = key[TIME_BYTES:]
        time = int.from_bytes(key[:TIME_BYTES])
        if time == _INFINITE_TIME:
            encoded = _SMALL[0]
        else:
            encoded = varint(time - self._time + 1)
            self._time = time
        return encoded + varint(len(prefix)) + prefix


class Reader:
    """Reads one message from its second byte on."""

    __slots__ = ("_at", "_data", "_key", "_time")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 1
        self._time = 0
        self._key = FIRST

    @property
    def at_end(self) -> bool:
        """Whether everything was read."""
        return self._at >= len(self._data)

    def bound(self) -> bytes:
        """Read an upper bound, as a key. Raises `MalformedMessage`."""
        offset = self.varint()
        time = _INFINITE_TIME if offset == 0 else min(self._time + offset - 1, _INFINITE_TIME)
        length = self.varint()
        if length > ID_BYTES:
            raise MalformedMessage(f"an id prefix of {length} bytes")
        key = time.to_bytes(TIME_BYTES) + self.take(length)
        whole = key.ljust(ITEM_BYTES, b"\0")
        if whole < self._key:
            raise MalformedMessage("a bound below the one before it")
        self._time = time
        self._key = whole
        return key

    def varint(self) -> int:
        """Read a natural number below 2^64. Raises `MalformedMessage`."""
        first = self._data[self._at : self._at + 1]
        if first and first < b"\x80":  # nearly all are that small
            self._at += 1
            return first[0]
        digits = self._data[self._at : self._at + _LONGEST_VARINT]
        number = 0
        for count, digit in enumerate(digits, 1):
            number = number << 7 | digit & 127
            if digit < 128 and not number >> 64:
                self._at += count
                return number
        if len(digits) < _LONGEST_VARINT:
            raise MalformedMessage("it ends in the midst of a number")
        raise MalformedMessage("a number of more than 64 bits")

    def take(self, length: int) -> bytes:
        """Read so many bytes. Raises `MalformedMessage`."""
        end = self._at + length
        if end > len(self._data):
            raise MalformedMessage(f"it ends {end - len(self._data)} bytes too early")
        taken = self._data[self._at : end]
        self._at = end
        return taken
