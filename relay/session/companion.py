"""A companion: another process of this relay that does one kind of work for this one.

It is started with one end of a socket pair, says `+` when it is ready (or `-` and why it cannot
be), and then answers requests in the order in which they come, in local frames. Whoever asks gets
a `Ticket`, and may go on meanwhile.

When the process dies, what was under way fails, and a new one is started with a growing pause. It
ends when its end of the socket says so: after an orderly stop, and when this process is killed.
"""

import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Generic, TypeVar

import trio

from relay.errors import CompanionLost
from relay.protocol.local_frames import FrameBuffer, local_frame
from relay.session.core import Journal
from relay.session.stream import SocketStream

Answer = TypeVar("Answer")

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts to start the process."""
_START_TIMEOUT: Final = 30.0
"""Seconds that it may take to get ready (a store may have to recover)."""
_STOP_TIMEOUT: Final = 10.0
"""Seconds that it may take to finish what it has; then it is killed (its disk may hang)."""


class Ticket(Generic[Answer]):
    """One request under way."""

    __slots__ = ("_answer", "_done", "_failure")

    def __init__(self) -> None:
        self._done = trio.Event()
        self._answer: Answer | None = None
        self._failure: str | None = None

    @property
    def is_settled(self) -> bool:
        """Whether `wait` returns at once."""
        return self._done.is_set()

    def settle(self, answer: Answer) -> None:
        """Give the answer to whoever waits."""
        self._answer = answer
        self._done.set()

    def fail(self, reason: str) -> None:
        """Tell whoever waits that there will be no answer."""
        self._failure = reason
        self._done.set()

    async def wait(self) -> Answer:
        """Wait for the answer. Raises `CompanionLost` when there will be none."""
        await self._done.wait()
        if self._failure is not None:
            raise CompanionLost(self._failure)
        assert self._answer is not None  # noqa: S101 - what sets the event sets the answer
        return self._answer


class Companion(Generic[Answer]):
    """One process, kept running by `run`: `python -m MODULE DESCRIPTOR ARGUMENTS…`.

    `arguments` are those of the moment when it is started. `decode` reads the body of an answer.
    `name` is what log lines and failures call it.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        decode: Callable[[bytes], Answer],
        journal: Journal,
    ) -> None:
        self._name = name
        self._module = module
        self._arguments = arguments
        self._decode = decode
        self._journal = journal
        self._stream: SocketStream | None = None
        self._under_way: deque[Ticket[Answer]] = deque()
        self._turn = trio.StrictFIFOLock()

    @property
    def is_running(self) -> bool:
        """Whether it takes requests now."""
        return self._stream is not None

    @property
    def under_way(self) -> int:
        """Requests that it has not answered yet."""
        return len(self._under_way)

    async def submit(self, body: bytes) -> Ticket[Answer]:
        """Hand a request over.

        Cancelled while it has to wait, it may or may not have been handed over; if a part was, the
        process is given up, as nothing can follow half a frame.
        """
        ticket: Ticket[Answer] = Ticket()
        # whole frames only, and tickets in the order of the frames
        async with self._turn:
            stream = self._stream
            if stream is None:
                ticket.fail(f"the {self._name} is not running")
                return ticket
            self._under_way.append(ticket)
            # if it is lost, the receiving side notices too, and settles every ticket
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._send(stream, local_frame(body))
        return ticket

    async def _send(self, stream: SocketStream, frame: bytes) -> None:
        sent = stream.send_now(frame)
        if sent == len(frame):
            return
        # not shielded: a process that is stuck must not keep this one from stopping
        try:
            await stream.send_all(memoryview(frame)[sent:])
        except trio.Cancelled:
            stream.reset()
            raise

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the process running until cancelled, then let it finish and wait for it.

        Raises `CompanionLost` when it does not get ready the first time; later failures are
        logged, and tried again.
        """
        pause = _FIRST_PAUSE
        started = False
        while True:
            status = None
            try:
                process, stream = await self._start()
            except OSError as error:
                # no descriptor, no memory, no process to be had: that passes
                problem: str | None = f"the {self._name} process cannot be started: {error}"
            else:
                try:
                    problem = await self._opening(stream)
                    if problem is None:
                        pause = _FIRST_PAUSE
                        self._stream = stream
                        if not started:
                            started = True
                            task_status.started()
                        await self._receive(stream)
                        problem = "the process has ended"
                finally:
                    self._stream = None
                    while self._under_way:
                        self._under_way.popleft().fail(f"the {self._name} is not running")
                    with trio.CancelScope(shield=True):
                        await _end(process, stream)
                status = process.returncode
            if not started:
                raise CompanionLost(problem)
            self._journal("error", f"{self._name} lost", reason=problem, status=status)
            await trio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _start(self) -> tuple[trio.Process, SocketStream]:
        """Start the process and return it, with our end of the socket. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await trio.lowlevel.open_process(
                    [sys.executable, "-m", self._module, str(theirs.fileno()), *self._arguments],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            except BaseException:
                ours.close()
                raise
        return process, SocketStream(ours)

    async def _opening(self, stream: SocketStream) -> str | None:
        """Return why it is not ready; `None` when it is."""
        said = b""
        with trio.move_on_after(_START_TIMEOUT):
            try:
                said = await stream.receive_some(1)
                while said == b"-" and (more := await stream.receive_some(4096)):
                    return more.decode(errors="replace")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                said = b""
        return None if said == b"+" else f"the {self._name} process did not get ready"

    async def _receive(self, stream: SocketStream) -> None:
        buffer = FrameBuffer()
        while True:
            try:
                data = await stream.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return
            buffer.feed(data)
            while (body := buffer.next_body()) is not None:
                self._under_way.popleft().settle(self._decode(body))


async def _end(process: trio.Process, stream: SocketStream) -> None:
    """Let the process finish, and wait for its end."""
    # its end of file: it finishes what it has, and ends
    await stream.aclose()
    with trio.move_on_after(_STOP_TIMEOUT):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
