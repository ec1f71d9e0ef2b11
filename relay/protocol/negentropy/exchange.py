"""One message taken, the next one made: the two roles of set reconciliation (NIP-77, appendix).

Both go through the ranges of what the other has sent and compare each with their own items in it:

    skip          nothing to do
    fingerprint   the same: skip; else: sixteen fingerprints of parts, or the ids if they are few
    id list       the responder answers with its own ids; the initiator now knows the difference

Ranges that nothing is to be said about are joined into one skip, and left out at the end. With a
frame size, a message that becomes too long ends with one fingerprint for everything that is left,
about which the other asks in the next round. All choices that the protocol leaves open are those of
the reference implementation, so messages are the same, byte by byte.

A responder keeps nothing between two messages but its vector. `Round.step` goes on range by range,
so that a long message needs not be answered at once. A range costs some 0.2 ms at most, and a
message no more than its ranges, however large they are.
"""

from collections.abc import Callable
from typing import Final

from relay.protocol.negentropy.codec import (
    FINGERPRINT,
    FINGERPRINT_BYTES,
    ID_BYTES,
    ID_LIST,
    INFINITY,
    SKIP,
    VERSION,
    Bounds,
    MalformedMessage,
    Reader,
    dividing_key,
    varint,
)
from relay.protocol.negentropy.vector import Vector

SMALLEST_FRAME: Final = 4096
"""No frame size is smaller than this, except 0, which means that there is none."""

_PARTS: Final = 16
_FEW: Final = 2 * _PARTS
_RESERVE: Final = 200
"""For the last fingerprint, which comes on top."""
_OF_NOTHING: Final = Vector().fingerprint(0, 0)

_SKIP: Final = varint(SKIP)
_FINGERPRINT: Final = varint(FINGERPRINT)
_ID_LIST: Final = varint(ID_LIST)


class Round:
    """The responder's part: the answer to one message. Raises `MalformedMessage`, as `step` does.

    `frame_size` is the largest size of an answer, in bytes; 0: any.
    """

    __slots__ = (
        "_bounds",
        "_index",
        "_most",
        "_output",
        "_pending",
        "_reader",
        "_skipped",
        "_vector",
        "done",
    )

    def __init__(self, vector: Vector, message: bytes, frame_size: int) -> None:
        if not message:
            raise MalformedMessage("it is empty")
        self._vector = vector
        self._reader = Reader(message)
        self._bounds = Bounds()
        self._output = bytearray(VERSION)
        self._most = max(frame_size, SMALLEST_FRAME) - _RESERVE if frame_size else None
        self._index = 0
        self._pending: bytes | None = None
        self._skipped: bytes | None = None
        self.done = self._reader.at_end
        """Whether the whole message was answered."""
        if message[:1] != VERSION:
            self._refuse_version(message[0])

    @property
    def output(self) -> bytes:
        """The answer, once done."""
        return bytes(self._output)

    def step(self, budget: Callable[[], bool]) -> bool:
        """Answer on until done (true) or until the budget ends (false); at least one range."""
        while not self.done:
            self._answer_range()
            if not self.done and budget():
                return False
        return True

    def _refuse_version(self, version: int) -> None:
        """Say which version is spoken here, by the byte that the answer begins with."""
        del version
        self.done = True

    def _answer_range(self) -> None:
        reader, vector = self._reader, self._vector
        bound = reader.bound()
        mode = reader.varint()
        if mode == SKIP:
            # where it ends among our items is looked up when it matters
            self._skip_to(bound)
            self._pending = bound
            self.done = reader.at_end
            return
        if self._pending is not None:
            self._index = vector.lower_bound(self._pending, self._index)
            self._pending = None
        lower = self._index
        upper = rest = vector.lower_bound(bound, lower)
        answer = b""
        if mode == FINGERPRINT:
            theirs = reader.take(FINGERPRINT_BYTES)
            if theirs == vector.fingerprint(lower, upper):
                self._skip_to(bound)
            else:
                answer = self._skipping() + self._divide(lower, upper, bound)
                if theirs == _OF_NOTHING:
                    rest = lower  # else what is left might look the same to them
        elif mode == ID_LIST:
            theirs = reader.take(reader.varint() * ID_BYTES)
            upper = rest = self._answer_ids(theirs, lower, upper, bound)
        else:
            raise MalformedMessage(f"mode {mode}")
        if self._is_too_long(len(answer)):
            self._output += self._bounds.write(INFINITY) + _FINGERPRINT
            self._output += vector.fingerprint(rest, len(vector))
            self.done = True
            return
        self._output += answer
        self._index = upper
        self.done = reader.at_end

    def _answer_ids(self, theirs: bytes, lower: int, upper: int, bound: bytes) -> int:
        """Add our own ids, as many as there is room for; return the index behind them."""
        del theirs
        end = upper
        if self._most is not None:
            room = max(0, (self._most - len(self._output)) // ID_BYTES + 1)
            if room < upper - lower:
                end = lower + room
                bound = self._vector[end]
        skip = self._skipping()
        self._output += skip + self._id_list(lower, end, bound)
        return end

    def _id_list(self, lower: int, upper: int, bound: bytes) -> bytes:
        ids = self._vector.ids(lower, upper)
        return self._bounds.write(bound) + _ID_LIST + varint(upper - lower) + ids

    def _divide(self, lower: int, upper: int, bound: bytes) -> bytes:
        """Return our ids of a range, or the fingerprints of its parts."""
        count = upper - lower
        if count < _FEW:
            return self._id_list(lower, upper, bound)
        vector = self._vector
        size, larger = divmod(count, _PARTS)
        edges = [lower + size * part + min(part, larger) for part in range(_PARTS + 1)]
        answer = bytearray()
        for end, fingerprint in zip(edges[1:], vector.fingerprints(edges), strict=True):
            edge = bound if end == upper else dividing_key(vector[end - 1], vector[end])
            answer += self._bounds.write(edge) + _FINGERPRINT + fingerprint
        return bytes(answer)

    def _skip_to(self, bound: bytes) -> None:
        self._skipped = bound

    def _skipping(self) -> bytes:
        """Return the range, if any, that says nothing about what was skipped."""
        if self._skipped is None:
            return b""
        bound, self._skipped = self._skipped, None
        return self._bounds.write(bound) + _SKIP

    def _is_too_long(self, more: int) -> bool:
        return self._most is not None and len(self._output) + more > self._most


class _InitiatorRound(Round):
    """The initiator's part: it learns from the responder's ids, and does not send its own again."""

    __slots__ = ("_have", "_need")

    def __init__(
        self, vector: Vector, message: bytes, frame_size: int, have: set[bytes], need: set[bytes]
    ) -> None:
        self._have = have
        self._need = need
        super().__init__(vector, message, frame_size)

    def begin(self) -> bytes:
        """Return the first message, which asks about everything."""
        return self.output + self._divide(0, len(self._vector), INFINITY)

    def _refuse_version(self, version: int) -> None:
        raise MalformedMessage(f"version {version - 0x60} of the protocol is not spoken here")

    def _answer_ids(self, theirs: bytes, lower: int, upper: int, bound: bytes) -> int:
        there = _cut(theirs)
        here = _cut(self._vector.ids(lower, upper))
        self._have |= here - there
        self._need |= there - here
        self._skip_to(bound)
        return upper


class Initiator:
    """Finds out what the other side has not, and what it has more: `begin`, then `receive`."""

    def __init__(self, vector: Vector, frame_size: int = 0) -> None:
        """`frame_size` is the largest size of a message, in bytes; 0: any."""
        self._vector = vector
        self._frame_size = frame_size
        self.have: set[bytes] = set()
        """Ids that the other side has not, as far as is known yet."""
        self.need: set[bytes] = set()
        """Ids that only the other side has, as far as is known yet."""

    def begin(self) -> bytes:
        """Return the first message."""
        return self._round(VERSION).begin()

    def receive(self, message: bytes) -> bytes | None:
        """Learn from an answer; return the next message, or `None` when all is known.

        Raises `MalformedMessage`.
        """
        taken = self._round(message)
        taken.step(lambda: False)
        output = taken.output
        return None if output == VERSION else output

    def _round(self, message: bytes) -> _InitiatorRound:
        return _InitiatorRound(self._vector, message, self._frame_size, self.have, self.need)


def respond(vector: Vector, message: bytes, frame_size: int = 0) -> bytes:
    """Return the responder's whole answer to a message. Raises `MalformedMessage`."""
    answering = Round(vector, message, frame_size)
    answering.step(lambda: False)
    return answering.output


def _cut(ids: bytes) -> set[bytes]:
    return {ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)}
