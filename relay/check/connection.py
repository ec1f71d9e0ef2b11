"""One WebSocket connection to a relay: it reads always, and tells how it ended.

The reader never waits for a send. A relay that pushes back reads no more until somebody reads what
it has sent; if the answer to its ping had to wait for that, both would wait for ever. So frames
are posted: sent at once where the socket takes them, else kept for a task that sends the rest.

A silence is not an end. Whether a quiet connection is a dead one is found out by `Keepalive`, with
a ping; only when nothing at all comes after that is the connection called dead (failure F5: a read
timeout was taken for an error).
"""

import errno
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

import msgspec
import trio

from relay.check.frames import (
    CLOSE,
    NO_STATUS,
    PING,
    PONG,
    Closed,
    FrameReader,
    Ping,
    Pong,
    Violation,
    close_payload,
    masked_frame,
)
from relay.check.transport import Transport

NORMAL: Final = 1000
_UNSENT_BYTES: Final = 256 * 1024
"""`send` waits while more than this is unsent."""

Handle = Callable[[bytes, float], None]
"""Takes a text message and when it was received, by `time.perf_counter`."""


class How(Enum):
    """The ways in which a connection can end."""

    LEFT = "left"
    CLOSED = "closed"
    END_OF_FILE = "end of file"
    BROKEN = "broken"
    SILENT = "silent"
    VIOLATION = "violation"


class Ending(msgspec.Struct, frozen=True):
    """How a connection ended. `LEFT` is our own doing, all others are the relay's."""

    how: How
    text: str


class Leave(Enum):
    """How to leave: saying goodbye, ending the bytes, or breaking off."""

    CLOSE = "close"
    FIN = "fin"
    RESET = "reset"


class Connection:
    """One connection, past its handshake. `run` is its whole life.

    `nursery` is where what could not be sent at once is sent. The frames that came with the
    handshake are `received`.
    """

    __slots__ = (
        "_changed",
        "_ending",
        "_leaving",
        "_nursery",
        "_pong",
        "_reader",
        "_received",
        "_transport",
        "_unsent",
        "heard",
        "pinged",
    )

    def __init__(self, transport: Transport, received: bytes, nursery: trio.Nursery) -> None:
        self._transport = transport
        self._reader = FrameReader()
        self._received = received
        self._nursery = nursery
        self._unsent = bytearray()
        self._pong: bytes | None = None
        self._changed: trio.Event | None = None
        self._leaving = False
        self._ending: Ending | None = None
        self.heard = time.perf_counter()
        """When something last came from the relay."""
        self.pinged: float | None = None
        """When a ping was posted that nothing has followed yet."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come or go."""
        return self._ending is not None

    async def run(self, handle: Handle) -> Ending:
        """Hand every message to `handle` until the connection ends, and return how it did."""
        try:
            data = self._received
            self._received = b""
            while self._take(data, handle):
                data = await self._transport.receive()
                if not data:
                    text = "the relay ended the connection without a Close frame"
                    self._end(How.END_OF_FILE, text)
        except OSError as error:
            self._end(How.BROKEN, broken_text(error))
        except trio.ClosedResourceError:
            self._end(How.LEFT, "closed here")
        finally:
            # cancelled: there is no time for anything but this
            self._end(How.LEFT, "cancelled")
            self._transport.close()
        assert self._ending is not None  # noqa: S101 - every way out has said it
        return self._ending

    def post(self, payload: bytes, opcode: int | None = None) -> None:
        """Send a message, now or as soon as the socket takes it; after the end, do nothing."""
        if self._ending is not None:
            return
        frame = masked_frame(payload) if opcode is None else masked_frame(payload, opcode)
        if self._unsent:
            self._unsent += frame
            return
        try:
            sent = self._transport.send_now(frame)
        except OSError:
            return  # the reader hears of it, too, and can say how
        if sent < len(frame):
            self._unsent += frame[sent:]
            self._nursery.start_soon(self._send_rest)

    async def send(self, payload: bytes) -> None:
        """Post a message, then wait while there is too much that the relay does not take."""
        self.post(payload)
        while len(self._unsent) > _UNSENT_BYTES and self._ending is None:
            self._changed = self._changed or trio.Event()
            await self._changed.wait()

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.pinged = time.perf_counter()
        self.post(b"relay-check", PING)

    def give_up(self, text: str) -> None:
        """End a connection that is dead, for the reason in `text`."""
        self._end(How.SILENT, text)
        self._transport.close()

    async def leave(self, how: Leave, patience: float) -> None:
        """Leave, and wait up to `patience` seconds for the relay to end its side.

        Cancelled, the connection is still open: `run` closes it when it is cancelled.
        """
        if self._ending is not None:
            return
        self._leaving = True
        if how is not Leave.RESET:
            try:
                if how is Leave.CLOSE:
                    self.post(close_payload(NORMAL), CLOSE)
                else:
                    await self._transport.send_eof()
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # it ended at this very moment
            with trio.move_on_after(patience):
                while self._ending is None:
                    self._changed = self._changed or trio.Event()
                    await self._changed.wait()
        self._end(How.LEFT, "left")
        self._transport.close(reset=how is Leave.RESET)

    def _take(self, data: bytes, handle: Handle) -> bool:
        """Handle what these bytes complete; tell whether there may be more."""
        now = time.perf_counter()
        self.heard = now
        self.pinged = None
        for item in self._reader.feed(data):
            if type(item) is bytes:
                handle(item, now)
            elif isinstance(item, Ping):
                self._answer(item.payload)
            elif isinstance(item, Closed):
                self._closed(item)
            elif isinstance(item, Violation):
                self.post(close_payload(item.code), CLOSE)
                self._end(How.VIOLATION, f"the relay broke the protocol: {item.reason}")
            else:
                assert isinstance(item, Pong)  # noqa: S101 - there is no other; it was a sign
        return self._ending is None

    def _answer(self, payload: bytes) -> None:
        if self._unsent:
            # only the latest needs an answer (section 5.5.3): a flood of pings fills no memory
            self._pong = payload
        else:
            self.post(payload, PONG)

    def _closed(self, frame: Closed) -> None:
        # the answer repeats the code (section 5.5.1)
        self.post(b"" if frame.code == NO_STATUS else close_payload(frame.code), CLOSE)
        self._end(How.CLOSED, f"the relay closed it: {frame.code} {frame.reason}".rstrip())

    def _end(self, how: How, text: str) -> None:
        if self._ending is None:
            self._ending = Ending(How.LEFT, "left") if self._leaving else Ending(how, text)
        self._wake()

    async def _send_rest(self) -> None:
        while self._unsent:
            data = bytes(self._unsent)
            try:
                await self._transport.send_all(data)
            except (OSError, trio.ClosedResourceError):
                self._unsent.clear()  # the reader hears of it, too, and can say how
                self._pong = None
            else:
                del self._unsent[: len(data)]
            if self._pong is not None:
                payload, self._pong = self._pong, None
                self._unsent += masked_frame(payload, PONG)
            self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def broken_text(error: OSError) -> str:
    """Return what went wrong, as the system calls it."""
    if error.errno == errno.ECONNRESET:
        return "the relay reset the connection"
    return f"the connection broke: {error.strerror or error}"
