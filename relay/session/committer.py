"""The way to the store's one writer, in this process or in a process of its own.

A commit has two halves, so that the next batch can be verified while this one is written:
`begin` hands a batch over, `finish` waits for its outcomes. Batches are answered in the order in
which they began.

`ProcessCommitter` starts the writer process, keeps it running, and speaks to it over a socket
pair. When the process dies, what was under way fails with `StoreUnavailable` (it may or may not
have been committed; it is answered as an error, and a publisher who sends it again gets a
duplicate at worst), and a new process is started with a growing pause.
"""

import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

import trio

from relay.errors import StoreError, StoreUnavailable
from relay.protocol.event import Record
from relay.session.core import Journal
from relay.session.stream import SocketStream
from relay.store.api import Committed, EventWriter, Outcome
from relay.store.commit_protocol import COMMIT, SWEEP, Answer, FrameBuffer, Request, frame

_LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts to start the writer process."""
_START_TIMEOUT: Final = 30.0
"""Seconds that the writer process may take to open the store (it may have to recover)."""
_STOP_TIMEOUT: Final = 30.0
"""Seconds that it may take to finish its last batch and close the store."""
_NOT_RUNNING: Final = "the store's writer is not running"


class Ticket:
    """One batch under way."""

    __slots__ = ("answer", "done")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.answer: Answer | None = None

    def settle(self, answer: Answer) -> None:
        """Give the answer to whoever waits."""
        self.answer = answer
        self.done.set()


class Committer(Protocol):
    """Commits batches, in order."""

    async def begin(self, records: Sequence[Record], now: int) -> Ticket:
        """Hand a batch over. Cancelled, it may or may not have been handed over."""
        ...

    async def finish(self, ticket: Ticket) -> list[Committed]:
        """Wait until the batch is durable; say what became of each event.

        Raises `StoreUnavailable` when the store failed; then nothing of the batch may be
        answered with OK.
        """
        ...

    async def sweep(self, now: int, max_events: int) -> int:
        """Remove expired events; return how many.  Raises `StoreUnavailable`."""
        ...

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the writer running until cancelled; started when the store is open."""
        ...


def _outcomes(answer: Answer) -> list[Committed]:
    if answer.error is not None:
        raise StoreUnavailable(answer.error)
    return [Committed(Outcome(outcome), seq) for outcome, seq in answer.outcomes]


class LocalCommitter:
    """Commits in this process: for a store in memory, for tests and for embedding."""

    def __init__(self, writer: EventWriter) -> None:
        self._writer = writer

    async def begin(self, records: Sequence[Record], now: int) -> Ticket:
        """Commit at once."""
        ticket = Ticket()
        try:
            committed = self._writer.commit(records, now)
            ticket.settle(Answer(0, [(int(one.outcome), one.seq) for one in committed]))
        except StoreError as error:
            ticket.settle(Answer(0, error=str(error)))
        return ticket

    async def finish(self, ticket: Ticket) -> list[Committed]:
        """Return what `begin` has done."""
        assert ticket.answer is not None  # noqa: S101 - begin has settled it
        return _outcomes(ticket.answer)

    async def sweep(self, now: int, max_events: int) -> int:
        """Remove expired events; return how many."""
        return self._writer.sweep(now, max_events)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do the store's housekeeping now and then."""
        task_status.started()
        while True:
            await trio.sleep(1)
            self._writer.maintain()


class ProcessCommitter:
    """Commits through the writer process of the store at `location`."""

    def __init__(self, location: str, journal: Journal) -> None:
        self._location = location
        self._journal = journal
        self._stream: SocketStream | None = None
        self._under_way: deque[Ticket] = deque()
        self._turn = trio.StrictFIFOLock()
        self._next_ticket = 0

    async def begin(self, records: Sequence[Record], now: int) -> Ticket:
        """Hand a batch over to the process."""
        ticket = Ticket()
        request = Request(self._number(), now, COMMIT, [record.raw for record in records])
        await self._submit(ticket, request)
        return ticket

    async def finish(self, ticket: Ticket) -> list[Committed]:
        """Wait for the process's answer."""
        await ticket.done.wait()
        assert ticket.answer is not None  # noqa: S101 - what sets the event sets the answer
        return _outcomes(ticket.answer)

    async def sweep(self, now: int, max_events: int) -> int:
        """Have the process remove expired events; return how many."""
        ticket = Ticket()
        await self._submit(ticket, Request(self._number(), now, SWEEP, amount=max_events))
        await self.finish(ticket)
        return ticket.answer.amount if ticket.answer is not None else 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the writer process running until cancelled, then let it finish and wait for it.

        Raises `StoreUnavailable` when the store cannot be opened at the start; later failures are
        logged, and tried again.
        """
        pause = 0.1
        started = False
        while True:
            ours, theirs = socket.socketpair()
            with theirs:
                process = await _start(theirs.fileno(), self._location)
            stream = SocketStream(ours)
            try:
                problem = await _opening(stream)
                if problem is None:
                    pause = 0.1
                    self._stream = stream
                    if not started:
                        started = True
                        task_status.started()
                    await self._receive(stream)
                    problem = "the process has ended"
                elif not started:
                    raise StoreUnavailable(problem)
            finally:
                self._stream = None
                self._fail_under_way()
                with trio.CancelScope(shield=True):
                    # its end of file: it finishes what it has, closes the store and ends
                    await stream.aclose()
                    with trio.move_on_after(_STOP_TIMEOUT):
                        await process.wait()
                    if process.returncode is None:
                        process.kill()
                        await process.wait()
            self._journal("error", "writer lost", reason=problem, status=process.returncode)
            await trio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _submit(self, ticket: Ticket, request: Request) -> None:
        data = frame(request)
        # whole frames only, and tickets in the order of the frames
        async with self._turn:
            stream = self._stream
            if stream is None:
                ticket.settle(Answer(request.ticket, error=_NOT_RUNNING))
                return
            self._under_way.append(ticket)
            try:
                with trio.CancelScope(shield=True):
                    await stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the receiving side notices too, and settles every ticket

    async def _receive(self, stream: SocketStream) -> None:
        buffer = FrameBuffer()
        while True:
            try:
                data = await stream.receive_some(1 << 20)
            except trio.BrokenResourceError:
                return
            if not data:
                return
            buffer.feed(data)
            while (answer := buffer.next_answer()) is not None:
                self._under_way.popleft().settle(answer)

    def _fail_under_way(self) -> None:
        while self._under_way:
            self._under_way.popleft().settle(Answer(0, error=_NOT_RUNNING))

    def _number(self) -> int:
        self._next_ticket += 1
        return self._next_ticket


async def _opening(stream: SocketStream) -> str | None:
    """Return why the store could not be opened; `None` when it is open."""
    said = b""
    with trio.move_on_after(_START_TIMEOUT):
        try:
            said = await stream.receive_some(1)
            while said == b"-" and (more := await stream.receive_some(4096)):
                return more.decode(errors="replace")
        except trio.BrokenResourceError:
            said = b""
    return None if said == b"+" else "the writer process did not open the store"


async def _start(descriptor: int, location: str) -> trio.Process:
    return await trio.lowlevel.open_process(
        [sys.executable, "-m", "relay.store.commit_server", str(descriptor), location],
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
