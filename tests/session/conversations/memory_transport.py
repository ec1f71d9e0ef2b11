"""Sockets in memory that behave as the kernel's do, and of which a test decides every byte.

    peer's words → [incoming: so many bytes] → relay           what does not fit waits at the peer
    relay        → [outgoing: so many bytes] → peer reads      what does not fit is not taken

The relay's own `SocketStream` and accept loop work on them: a send takes what there is room for,
which cuts frames at any byte; a peer that does not read blocks; a FIN, a reset, and a close with
unread data are told apart. Only the three functions by which Trio waits for descriptors are
replaced, by ones that wait for these sockets.

Both directions note when each byte was sent or received by the relay. So a test knows, for every
frame, what the log was when it left at the latest, and for every message, when it had arrived.
"""

import errno
import socket
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

import pytest
import trio

from relay.session import accept, stream
from tests.session.conversations.ledger import Moment

Clock = Callable[[], Moment]

ADDRESS: Final = "203.0.113.7"


class _Flow:
    """One direction: the bytes in the kernel's buffer, and when the relay handled which."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.buffer = bytearray()
        self.handled = 0
        """Bytes that the relay has sent, or received."""
        self._ends: list[int] = []
        self._moments: list[Moment] = []

    def note(self, size: int, moment: Moment) -> None:
        self.handled += size
        self._ends.append(self.handled)
        self._moments.append(moment)

    def moment_of(self, offset: int) -> Moment:
        """Return when the relay handled the byte at `offset`."""
        return self._moments[bisect_right(self._ends, offset)]


class Pollable:
    """What the replaced functions can wait for."""

    def __init__(self) -> None:
        self.is_closed = False
        self._closing = False
        self._changed = trio.lowlevel.ParkingLot()

    def is_readable(self) -> bool:
        raise NotImplementedError

    def is_writable(self) -> bool:
        raise NotImplementedError

    def fileno(self) -> int:
        return -1 if self.is_closed else 1_000_000

    def setblocking(self, blocking: bool) -> None:
        assert not blocking

    def wake(self) -> None:
        """Have whoever waits look again."""
        if self._changed:
            self._changed.unpark_all()

    def notify_closing(self) -> None:
        self._closing = True
        self.wake()

    async def wait(self, ready: Callable[[], bool]) -> None:
        await trio.lowlevel.checkpoint()
        while not self._closing and not ready():
            await self._changed.park()
        if self._closing:
            raise trio.ClosedResourceError("another task closed this socket")


class MemorySocket(Pollable):
    """The relay's end of a connection."""

    family: Final = socket.AF_INET

    def __init__(self, clock: Clock, *, incoming_room: int, outgoing_room: int) -> None:
        super().__init__()
        self._clock = clock
        self.incoming = _Flow(incoming_room)
        self.outgoing = _Flow(outgoing_room)
        self.backlog = bytearray()
        """What the peer has said and the kernel had no room for."""
        self.peer_finished = False
        """The peer says nothing more: FIN behind what it has said."""
        self.peer_closed = False
        """The peer does not read any more, either."""
        self.broken = False
        """A reset has arrived from the peer."""
        self.finished = False
        """The relay's FIN is behind what it has sent."""
        self.reset = False
        """The relay has sent a reset."""
        self._resets_on_close = False

    def is_readable(self) -> bool:
        return bool(self.incoming.buffer) or self.peer_finished or self.broken

    def is_writable(self) -> bool:
        return len(self.outgoing.buffer) < self.outgoing.room or self.peer_closed or self.broken

    def setsockopt(self, level: int, option: int, value: object) -> None:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            self._resets_on_close = bool(value)

    def send(self, data: bytes | bytearray | memoryview) -> int:
        self._check()
        if self.finished:
            raise BrokenPipeError(errno.EPIPE, "shut down")
        if self.peer_closed:
            # taken by the kernel, and answered with a reset
            self.broken = True
            self.wake()
            return len(data)
        taken = min(len(data), self.outgoing.room - len(self.outgoing.buffer))
        if data and taken <= 0:
            raise BlockingIOError
        self.outgoing.buffer += bytes(data[:taken])
        self.outgoing.note(taken, self._clock())
        return taken

    def recv(self, size: int) -> bytes:
        self._check()
        buffer = self.incoming.buffer
        if not buffer:
            if self.peer_finished:
                return b""
            raise BlockingIOError
        data = bytes(buffer[:size])
        del buffer[:size]
        self.incoming.note(len(data), self._clock())
        self.pump()
        return data

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_WR
        self._check()
        self.finished = True

    def close(self) -> None:
        if self._resets_on_close or self.incoming.buffer or self.backlog:
            # nobody will read what is unread: the kernel says so to the peer
            self.reset = True
        self.finished = True
        self.is_closed = True

    def pump(self) -> None:
        """Move what the peer has said into the kernel's buffer, as far as there is room."""
        room = self.incoming.room - len(self.incoming.buffer)
        self.incoming.buffer += self.backlog[:room]
        del self.backlog[:room]
        self.wake()

    def _check(self) -> None:
        if self.is_closed:
            raise OSError(errno.EBADF, "closed")
        if self.broken:
            raise ConnectionResetError(errno.ECONNRESET, "reset by the peer")


class FarEnd:
    """The peer's end. Everything is synchronous: nothing happens that the test did not ask for."""

    def __init__(self, near: MemorySocket) -> None:
        self.near = near
        self.said = 0
        """Bytes that were said so far."""
        self.heard = 0
        """Bytes that were read so far."""

    @property
    def is_open(self) -> bool:
        """Whether the relay has not ended the connection, as far as this end can see."""
        return not self.near.finished and not self.near.reset

    @property
    def has_unread(self) -> bool:
        return bool(self.near.outgoing.buffer)

    def say(self, data: bytes) -> None:
        if not self.near.is_closed and not self.near.broken and not self.near.peer_finished:
            self.near.backlog += data
            self.said += len(data)
            self.near.pump()

    def hear(self, size: int) -> bytes:
        buffer = self.near.outgoing.buffer
        data = bytes(buffer[:size])
        del buffer[:size]
        self.heard += len(data)
        self.near.wake()
        return data

    def sent_at(self, offset: int) -> Moment:
        """Return when the relay sent the byte at `offset` of all it has sent."""
        return self.near.outgoing.moment_of(offset)

    def arrived_at(self, offset: int) -> Moment | None:
        """Return when the relay received the byte before `offset`; `None` if it has not."""
        if offset > self.near.incoming.handled:
            return None
        return self.near.incoming.moment_of(offset - 1)

    def finish(self) -> None:
        """Send a FIN and go on reading. What did not fit into the buffers is never said."""
        self.near.backlog.clear()
        self.near.peer_finished = True
        self.near.wake()

    def close(self) -> None:
        """Close as a process does that ends: a FIN, or a reset if there is something unread."""
        if self.has_unread:
            self.reset()
        else:
            self.finish()
            self.near.peer_closed = True
            self.near.wake()

    def reset(self) -> None:
        self.near.backlog.clear()
        self.near.incoming.buffer.clear()
        self.near.peer_finished = self.near.peer_closed = self.near.broken = True
        self.near.wake()


class MemoryListener(Pollable):
    """A listening socket to which a test connects."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._waiting: deque[MemorySocket] = deque()
        self._ports = count(40_000)
        self.accepted: list[MemorySocket] = []

    def is_readable(self) -> bool:
        return bool(self._waiting)

    def connect(self, *, incoming_room: int, outgoing_room: int) -> FarEnd:
        near = MemorySocket(self._clock, incoming_room=incoming_room, outgoing_room=outgoing_room)
        if self.is_closed:
            near.reset = near.finished = near.is_closed = True
        else:
            self._waiting.append(near)
            self.wake()
        return FarEnd(near)

    def accept(self) -> tuple[MemorySocket, tuple[str, int]]:
        if not self._waiting:
            raise BlockingIOError
        near = self._waiting.popleft()
        self.accepted.append(near)
        return near, (ADDRESS, next(self._ports))

    def close(self) -> None:
        self.is_closed = True
        self.notify_closing()
        for near in self._waiting:
            near.reset = near.finished = near.is_closed = True
        self._waiting.clear()


async def _wait_readable(near: Pollable) -> None:
    await near.wait(near.is_readable)


async def _wait_writable(near: Pollable) -> None:
    await near.wait(near.is_writable)


@contextmanager
def sockets_in_memory() -> Iterator[None]:
    """Have the relay's streams and accept loop wait for sockets in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accept, "wait_readable", _wait_readable)
        patch.setattr(stream, "wait_readable", _wait_readable)
        patch.setattr(stream, "wait_writable", _wait_writable)
        patch.setattr(stream, "notify_closing", Pollable.notify_closing)
        yield
