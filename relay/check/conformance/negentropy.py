"""The client's side of Negentropy Protocol V1, from the appendix of NIP-77.

Written from the text, apart from the relay's own code, and as plainly as can be: sets here are
small. A range is written as its upper bound; the lower one is the bound before.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from relay.check.conformance.verdicts import broken

VERSION: Final = 0x61
SKIP: Final = 0
FINGERPRINT: Final = 1
ID_LIST: Final = 2
_INFINITY: Final = (1 << 64) - 1
_ID: Final = 32
_FINGERPRINT: Final = 16
_BUCKETS: Final = 8
_FEW: Final = 12


class Record(NamedTuple):
    """One event of a set; records are in the order of the protocol."""

    time: int
    id: bytes


class Range(NamedTuple):
    """One range of a message. `upper` is exclusive; `ids` are of an IdList."""

    upper: Record
    mode: int
    fingerprint: bytes
    ids: tuple[bytes, ...]


_END: Final = Record(_INFINITY, bytes(_ID))


def varint(number: int) -> bytes:
    """Return a number in base 128, most significant digit first."""
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F | 0x80)
    return bytes(reversed(digits))


def fingerprint_of(records: Sequence[Record]) -> bytes:
    """Return the digest of all ids in a range."""
    total = sum(int.from_bytes(record.id, "little") for record in records) % (1 << 256)
    return sha256(total.to_bytes(_ID, "little") + varint(len(records))).digest()[:_FINGERPRINT]


def message_of(ranges: Iterable[Range]) -> bytes:
    """Return the message with these ranges."""
    parts, before = [bytes([VERSION])], 0
    for one in ranges:
        if one.upper.time == _INFINITY:
            parts.append(varint(0))
        else:
            parts.append(varint(1 + one.upper.time - before))
            before = one.upper.time
        prefix = one.upper.id.rstrip(b"\0")
        parts += [varint(len(prefix)), prefix, varint(one.mode)]
        if one.mode == FINGERPRINT:
            parts.append(one.fingerprint)
        elif one.mode == ID_LIST:
            parts += [varint(len(one.ids)), *one.ids]
    return b"".join(parts)


class _Reader:
    """Takes a message apart; ends the test as broken where it is none."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._at = 0

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._message)

    def take(self, size: int) -> bytes:
        taken = self._message[self._at : self._at + size]
        if len(taken) < size:
            broken("a message of whole ranges", f"{self._message.hex()[:300]} came, which is cut")
        self._at += size
        return taken

    def varint(self) -> int:
        number = 0
        while True:
            (byte,) = self.take(1)
            number = number << 7 | byte & 0x7F
            if byte < 0x80:
                return number


def ranges_of(message: bytes) -> list[Range]:
    """Take a relay's message apart; ends the test as broken where it is none."""
    reader = _Reader(message)
    (version,) = reader.take(1)
    if version != VERSION:
        broken("the version byte 0x61", f"0x{version:02x} came")
    ranges: list[Range] = []
    before, lower = 0, Record(0, bytes(_ID))
    while not reader.is_over:
        offset = reader.varint()
        time = _INFINITY if offset == 0 else before + offset - 1
        before = time
        size = reader.varint()
        if size > _ID:
            broken("an id prefix of 32 bytes at most", f"{size} came")
        upper = Record(time, reader.take(size).ljust(_ID, b"\0"))
        if upper < lower:
            broken("ranges in ascending order", f"{upper.time} after {lower.time} came")
        lower = upper
        mode = reader.varint()
        fingerprint = b""
        ids: tuple[bytes, ...] = ()
        if mode == FINGERPRINT:
            fingerprint = reader.take(_FINGERPRINT)
        elif mode == ID_LIST:
            ids = tuple(reader.take(_ID) for _ in range(reader.varint()))
        elif mode != SKIP:
            broken("mode 0, 1 or 2", f"{mode} came")
        ranges.append(Range(upper, mode, fingerprint, ids))
    return ranges


class Reconciler:
    """A client's set, and what it has learned: the ids that it needs, and those that it has."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = sorted(records)
        self.need: set[bytes] = set()
        """What the relay has and we have not."""
        self.have: set[bytes] = set()
        """What we have and the relay has not."""

    def first(self, *, lists: bool = False) -> bytes:
        """Return the message that opens: fingerprints, or all our ids at once if `lists`."""
        if lists:
            return message_of([_listed(self._records, _END)])
        return message_of(_split(self._records, _END))

    def next(self, message: bytes) -> bytes | None:
        """Take the relay's answer; return the next message, `None` when nothing is open."""
        replies: list[Range] = []
        lower = Record(0, bytes(_ID))
        is_open = False
        for one in ranges_of(message):
            ours = [record for record in self._records if lower <= record < one.upper]
            lower = one.upper
            reply = [Range(one.upper, SKIP, b"", ())]
            if one.mode == ID_LIST:
                mine, theirs = {record.id for record in ours}, set(one.ids)
                self.need |= theirs - mine
                self.have |= mine - theirs
            elif one.mode == FINGERPRINT and fingerprint_of(ours) != one.fingerprint:
                reply = _split(ours, one.upper)
                is_open = True
            replies += reply
        return message_of(replies) if is_open else None


def _listed(records: Sequence[Record], upper: Record) -> Range:
    return Range(upper, ID_LIST, b"", tuple(record.id for record in records))


def _split(records: Sequence[Record], upper: Record) -> list[Range]:
    if len(records) <= _FEW:
        return [_listed(records, upper)]
    ranges = []
    for bucket in range(_BUCKETS):
        start = len(records) * bucket // _BUCKETS
        end = len(records) * (bucket + 1) // _BUCKETS
        bound = upper if bucket == _BUCKETS - 1 else records[end]
        ranges.append(Range(bound, FINGERPRINT, fingerprint_of(records[start:end]), ()))
    return ranges
