"""A client's part of set reconciliation (NIP-77): what only we have, and what only a relay has.

`Comparison` is one reconciliation on a connection that may do other things beside: whoever reads
the connection hands every message to `take`, and `run` gives the difference. `reconcile` is both,
for a connection that is for nothing else.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import msgspec
import trio

from relay.check.connection import Connection, Leave
from relay.check.errors import CheckError
from relay.protocol.messages import UNDECODABLE
from relay.protocol.negentropy.codec import MalformedMessage
from relay.protocol.negentropy.exchange import Initiator
from relay.protocol.negentropy.vector import Vector, vector_of

FRAME_SIZE: Final = 60_000
"""The most bytes of one of our messages: in hex within strfry's limit of 131,072 for a message."""
PATIENCE: Final = 60.0
"""Seconds for one answer: a relay may have to list a million events first."""

_LEAVING: Final = 2.0
_REFUSALS: Final = ("neg", "unknown", "unsupported", "unrecogni", "invalid", "bad m", "disabled")
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class Difference(msgspec.Struct, frozen=True):
    """Ids, as 32 bytes each."""

    have: frozenset[bytes]
    """Of events that only we have."""
    need: frozenset[bytes]
    """Of events that only the relay has."""


class NotReconciled(CheckError):
    """The relay refused it, said something that is not of the protocol, or was gone."""


class Comparison:
    """One reconciliation under an id of ours. `filter_` is the JSON object of NIP-01."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        filter_: dict[str, Any],
        vector: Vector,
        frame_size: int = FRAME_SIZE,
    ) -> None:
        self._connection = connection
        self._name = name
        self._filter = filter_
        self._initiator = Initiator(vector, frame_size)
        self._send, self._answers = trio.open_memory_channel[list[Any]](1)
        self.rounds = 0
        """Answers that were received."""

    def take(self, message: bytes) -> bool:
        """Look at a message of the relay; tell whether it belongs to this reconciliation."""
        if not message.startswith((b'["NEG-', b'["NOTICE"')):
            return False
        try:
            value = _decode(message)
        except UNDECODABLE:
            return False
        match value:
            case [("NEG-MSG" | "NEG-ERR"), name, *_] if name == self._name:
                pass
            case ["NOTICE", str(text)] if not self.rounds and _is_refusal(text):
                pass
            case _:
                return False
        with suppress(trio.WouldBlock, trio.ClosedResourceError):  # out of turn
            self._send.send_nowait(value)
        return True

    async def run(self, patience: float = PATIENCE) -> Difference:
        """Ask until all is known; each answer may take `patience` seconds.

        Raises `NotReconciled`. When cancelled, the reconciliation is closed at the relay, too.
        """
        message: bytes | None = self._initiator.begin()
        opening = [self._filter]
        try:
            while message is not None:
                verb = "NEG-MSG" if self.rounds else "NEG-OPEN"
                parts = [verb, self._name, *([] if self.rounds else opening), message.hex()]
                await self._connection.send(_encode(parts))
                message = self._initiator.receive(await self._answer(patience))
        except MalformedMessage as error:
            raise NotReconciled(f"not a message of the Negentropy Protocol: {error}") from error
        finally:
            self._send.close()
            self._connection.post(_encode(["NEG-CLOSE", self._name]))
        return Difference(frozenset(self._initiator.have), frozenset(self._initiator.need))

    def end(self, reason: str) -> None:
        """Give up: the connection has ended."""
        try:
            self._send.send_nowait(["NEG-ERR", self._name, reason])
        except (trio.WouldBlock, trio.ClosedResourceError):
            self._send.close()

    async def _answer(self, patience: float) -> bytes:
        try:
            with trio.fail_after(patience):
                answer = await self._answers.receive()
        except trio.TooSlowError as error:
            raise NotReconciled(f"no answer within {patience:g} s") from error
        except trio.EndOfChannel as error:
            raise NotReconciled("the connection has ended") from error
        if answer[0] != "NEG-MSG":
            raise NotReconciled(" ".join([str(part) for part in answer if part != self._name]))
        self.rounds += 1
        try:
            return bytes.fromhex(answer[2])
        except (IndexError, TypeError, ValueError) as error:
            raise NotReconciled("its message is not of hex digits") from error


def _is_refusal(notice: str) -> bool:
    """Tell whether a NOTICE is what a relay says that does not know NEG-OPEN."""
    text = notice.lower()
    return any(word in text for word in _REFUSALS)


async def reconcile(
    connection: Connection,
    filter_: dict[str, Any],
    items: Iterable[tuple[int, str]],
    *,
    frame_size: int = FRAME_SIZE,
    patience: float = PATIENCE,
) -> Difference:
    """Compare what we have, by (created_at, id), with what a relay has that matches `filter_`.

    The connection is used for this only, and left at the end. Raises `NotReconciled`.
    """
    vector = vector_of(time.to_bytes(8) + bytes.fromhex(event_id) for time, event_id in items)
    comparison = Comparison(connection, "reconcile", filter_, vector, frame_size)

    def take(message: bytes, _when: float) -> None:
        comparison.take(message)

    async def read() -> None:
        ending = await connection.run(take)
        comparison.end(ending.text)

    failure: NotReconciled | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        try:
            found = await comparison.run(patience)
        except NotReconciled as error:
            failure = error  # kept out of the nursery, which would wrap it
        await connection.leave(Leave.CLOSE, _LEAVING)
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return found
