"""The one writer of a connection: every byte after the handshake leaves through it.

Others hand it whole frames; it decides when they reach the socket.

    stage(frame) ─┐  collected, then joined into one chunk by `flush`
                  ├─ writer idle: straight to the socket, as much as the kernel takes at once
                  └─ writer busy: into the write channel (100 chunks, and a bound in bytes)
    control(frame)   ping, pong, close: before anything that is queued, after a chunk under way

The writer's task sends what could not leave at once. It drains the channel into one send, and
waits for the socket no longer than `write_timeout` without progress; then the connection is lost.

Three parts of the order matter. A chunk that the kernel took only half of must be finished before
any other byte (`_rest`). Frames leave in the order of `stage`. And of control frames the latest of
each kind suffices (RFC 6455 section 5.5.3), so a flood of pings cannot fill memory.

A full queue is the caller's business, and has a name for each: `stage` says no (a subscription
then falls behind and re-reads the log), `wait_room` waits (the reader, and so the peer's TCP).
Answers to what the peer itself has sent are staged regardless of the bounds: they are
bounded by the number of messages that the reader lets in.

Measured with 500 subscribers, µs of CPU for a delivery: 20 by way of the channel and the task,
7.3 written through when idle; in bursts of 20 staged together, 1.9.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from relay.session.stream import DirectSend

_LARGEST_SEND: Final = 256 * 1024
"""Chunks are joined into one send up to about this many bytes."""

STALLED: Final = "stalled: nothing could be sent within the write timeout"
"""Why a connection was lost whose peer is still there; see `Writer`."""
GONE: Final = "the peer is gone"

_CLOSE: Final = 0x88
_WAKE: Final = b""
"""An empty chunk: nothing to send, only a reason to look at the rest."""


def _nobody(_reason: str) -> None:
    """Tell nobody."""


class Writer:
    """Sends one connection's frames. `run` must be running for anything queued to leave.

    `on_lost` is called, once and synchronously, when the peer is gone or has stalled; it gets the
    reason, `GONE` or `STALLED`. After that everything handed in is dropped.
    """

    def __init__(
        self,
        stream: trio.abc.SendStream,
        *,
        on_lost: Callable[[str], None],
        capacity: int = 100,
        max_bytes: int = 1 << 20,
        write_timeout: float = 10.0,
    ) -> None:
        self._stream = stream
        self._direct = stream if isinstance(stream, DirectSend) else None
        self._on_lost = on_lost
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._write_timeout = write_timeout
        self._channel, self._queue = trio.open_memory_channel[bytes](capacity)
        self._staged: list[bytes] = []
        self._staged_bytes = 0
        self._queued_chunks = 0
        self._queued_bytes = 0
        self._pending: deque[bytes] = deque()
        self._rest: bytes | memoryview = b""
        self._control: dict[int, bytes] = {}
        self._idle = False
        self._over = False
        self._lost = False
        self._abandoned = False
        self._room = trio.lowlevel.ParkingLot()

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait for the socket."""
        return self._queued_bytes + self._staged_bytes + len(self._rest)

    @property
    def queued_chunks(self) -> int:
        """Entries of the write channel that wait for the socket."""
        return self._queued_chunks

    @property
    def is_over(self) -> bool:
        """Whether nothing is taken any more."""
        return self._over

    @property
    def has_room(self) -> bool:
        """Whether `stage` would take another frame."""
        # one place in the channel stays free for what is staged already
        return (
            self._queued_chunks < self._capacity - 1
            and self._queued_bytes + self._staged_bytes < self._max_bytes
        )

    def stage(self, frame: bytes) -> bool:
        """Take whole frames for the next `flush`; false, and nothing taken, when the queue is full.

        `frame` may be several frames joined. A frame of any size is taken while there is room, so
        that none is too large for ever. After `finish` or a loss nothing is taken.
        """
        if (
            self._over
            or self._queued_chunks >= self._capacity - 1
            or self._queued_bytes + self._staged_bytes >= self._max_bytes
        ):
            return False
        self._staged.append(frame)
        self._staged_bytes += len(frame)
        return True

    def stage_answer(self, frame: bytes) -> None:
        """Take a frame that answers a message of the peer, full or not."""
        if self._over:
            return
        self._staged.append(frame)
        self._staged_bytes += len(frame)

    def flush(self) -> None:
        """Send what is staged if the socket takes it at once; queue what it does not take."""
        staged = self._staged
        if not staged:
            return
        direct = self._direct if self._idle else None
        if direct is None and self._queued_chunks >= self._capacity:
            return  # answers beyond the bound: the task takes them as soon as it has room
        chunk = staged[0] if len(staged) == 1 else b"".join(staged)
        staged.clear()
        self._staged_bytes = 0
        if direct is None:
            self._enqueue(chunk)
        else:
            self._write_through(direct, chunk)
            if self._room and self.has_room:
                self._room.unpark_all()

    def write_through(self, frame: bytes) -> bool:
        """Send one frame straight to the socket, if nothing else is to be sent before it.

        False when that is not so: then nothing was taken, and `stage` and `flush` are the way. This
        does no more than they would; it only saves half of what they cost (0.5 of 1.1 µs).
        """
        if not self._idle or self._staged or self._direct is None:
            return False
        self._write_through(self._direct, frame)
        return True

    def control(self, frame: bytes) -> None:
        """Send a control frame before everything that is queued."""
        if self._over:
            return
        if self._idle and self._direct is not None and not self._control:
            self._write_through(self._direct, frame)
        else:
            self._control[frame[0]] = frame
            self._wake()
        if frame[0] == _CLOSE:
            # nothing may follow it (RFC 6455 section 5.5.1)
            self.abandon()

    def finish(self, last_frame: bytes = b"") -> None:
        """Let `run` return after sending what is queued, then `last_frame` (a Close).

        Nothing that comes later is taken.
        """
        if last_frame:
            self.stage_answer(last_frame)
        self.flush()
        self._over = True
        self._wake()

    def abandon(self) -> None:
        """Drop what is queued, but for control frames, and let `run` return after those."""
        self._staged.clear()
        self._staged_bytes = 0
        self._pending.clear()
        with suppress(trio.WouldBlock):
            while True:
                self._queue.receive_nowait()
        self._queued_chunks = self._queued_bytes = 0
        self._over = self._abandoned = True
        self._wake()

    def forget(self) -> None:
        """Let go of whoever is told of a loss: after `run` has ended."""
        self._over = self._lost = True
        self._idle = False
        self._on_lost = _nobody

    async def wait_room(self) -> None:
        """Wait until the queue takes another frame, or the connection is lost.

        Cancellation is harmless.
        """
        while not self.has_room and not self._over:
            await self._room.park()

    async def send(self, make: Callable[[], bytes]) -> None:
        """Wait for room, then stage what `make` returns, and flush. Always a checkpoint.

        The frames are made only when they will be staged: some must not be made in vain (see
        `framing.OwnFraming`). A cancelled call has made and sent nothing.
        """
        if self.has_room:
            await trio.lowlevel.checkpoint()
        while not self.has_room:
            if self._over:
                return
            await self._room.park()
            # woken and then cancelled, before it was its turn
            await trio.lowlevel.checkpoint_if_cancelled()
        if not self._over:
            self.stage(make())
            self.flush()

    async def run(self) -> None:
        """Send what is queued until `finish` or `abandon`, or until the connection is lost.

        When cancelled, a frame may have been sent in part: the connection must be closed.
        """
        while not self._lost:
            if not self._pending and not self._rest and not self._control:
                if not self._queued_chunks and self._staged:
                    self.flush()
                if not self._queued_chunks:
                    if self._over:
                        return
                    self._idle = True
                self._pending.append(await self._queue.receive())
                self._idle = False
            self._collect()
            if self._abandoned:
                # the channel may have handed over a chunk that `abandon` did not see any more
                self._pending.clear()
                self._queued_chunks = self._queued_bytes = 0
            try:
                await self._send_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._lose(GONE)
            except trio.TooSlowError:
                self._lose(STALLED)
            self.flush()
            if self.has_room:
                self._room.unpark_all()

    def _collect(self) -> None:
        """Take from the channel what fits into one send."""
        size = sum(map(len, self._pending))
        with suppress(trio.WouldBlock):
            while size < _LARGEST_SEND:
                self._pending.append(self._queue.receive_nowait())
                size += len(self._pending[-1])

    async def _send_some(self) -> None:
        """Send the rest of a chunk, then control frames, then whole chunks, as far as it goes.

        What did not go is kept in that order, so that a control frame that comes meanwhile still
        overtakes the chunks behind the one under way.
        """
        control = list(self._control.values())
        parts = [self._rest, *control, *self._pending]
        data = b"".join(parts)
        if not data:
            self._sent(0, control)
        elif self._direct is None:
            with trio.fail_after(self._write_timeout):
                await self._stream.send_all(data)
            self._sent(len(data), control)
        else:
            taken = self._direct.send_now(data)
            self._sent(taken, control)
            if taken < len(data):
                # the deadline is for progress, not for the whole: a slow peer may take its time
                with trio.fail_after(self._write_timeout):
                    await self._stream.wait_send_all_might_not_block()

    def _sent(self, taken: int, control: list[bytes]) -> None:
        """Note that the first `taken` bytes of rest, `control` and pending chunks have left."""
        rest = len(self._rest)
        if taken < rest:
            self._rest = self._rest[taken:]
            return
        taken -= rest
        self._rest = b""
        for frame in control:
            if not taken:
                return
            if self._control.get(frame[0]) is frame:  # and not one that came meanwhile
                del self._control[frame[0]]
            if taken < len(frame):
                self._rest = frame[taken:]
                return
            taken -= len(frame)
        while self._pending and (taken or not self._pending[0]):
            chunk = self._pending.popleft()
            self._queued_chunks -= 1
            self._queued_bytes -= len(chunk)
            if taken < len(chunk):
                self._rest = memoryview(chunk)[taken:]
                return
            taken -= len(chunk)

    def _write_through(self, stream: DirectSend, chunk: bytes) -> None:
        try:
            sent = stream.send_now(chunk)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._lose(GONE)
            return
        if sent < len(chunk):
            self._rest = memoryview(chunk)[sent:] if sent else chunk
            self._wake()

    def _enqueue(self, chunk: bytes) -> None:
        self._idle = False
        self._channel.send_nowait(chunk)
        self._queued_chunks += 1
        self._queued_bytes += len(chunk)

    def _wake(self) -> None:
        if self._idle:
            self._enqueue(_WAKE)

    def _lose(self, reason: str) -> None:
        if self._lost:
            return
        self._lost = True
        self._over = True
        self._idle = False
        self._rest = b""
        self._pending.clear()
        self._control.clear()
        self._staged.clear()
        self._staged_bytes = 0
        self._room.unpark_all()
        self._on_lost(reason)
