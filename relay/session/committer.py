"""The way to the store's one writer, in this process or in a process of its own.

A commit has two halves, so that the next batch can be verified while this one is written:
`begin` hands a batch over, `finish` waits for its outcomes. Batches are answered in the order in
which they began.

`ProcessCommitter` has the writer process as its companion. When that dies, what was under way fails
with `StoreUnavailable` (it may or may not have been committed; it is answered as an error, and a
publisher who sends it again gets a duplicate at worst), and a new process is started. It must find
the very file that the first one had opened: who deletes or replaces a store under a running relay
gets errors, and not two stores, one that is written and one that is read.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

import trio

from relay.errors import CompanionLost, StoreError, StoreUnavailable
from relay.protocol.event import Record
from relay.session.companion import Companion, Ticket
from relay.session.core import Journal
from relay.store.api import Committed, EventWriter, Terms
from relay.store.commit_protocol import (
    COMMIT,
    INDEX,
    NO_SEARCH,
    SWEEP,
    Answer,
    Request,
    decode_answer,
    encode,
)
from relay.store.locate import parse_location, store_identity
from relay.store.semantics import is_unfinished

_INDEXED_AT_ONCE: Final = 256
"""Events in one portion of the search index: 10 ms."""


class Committer(Protocol):
    """Commits batches, in order."""

    async def begin(
        self, records: Sequence[Record], now: int, terms: Terms | None = None
    ) -> Ticket[Answer]:
        """Hand a batch over, to be taken on `terms`, if there are any.

        Cancelled, it may or may not have been handed over.
        """
        ...

    async def finish(self, ticket: Ticket[Answer]) -> list[Committed]:
        """Wait until the batch is durable; say what became of each event.

        Raises `StoreUnavailable` when the store failed; then nothing of the batch may be
        answered with OK.

        Of a batch with terms it waits until everything is erased, in as many transactions as that
        takes. Cancelled, some may be left.
        """
        ...

    async def sweep(self, now: int, max_events: int) -> int:
        """Remove expired events; return how many.  Raises `StoreUnavailable`."""
        ...

    async def index(self, position: int) -> None:
        """Have the search index follow the log up to `position`.

        Cancelled, it is left where it is. Raises `StoreUnavailable`.
        """
        ...

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the writer running until cancelled; started when the store is open."""
        ...


async def _settled(ticket: Ticket[Answer]) -> Answer:
    try:
        answer = await ticket.wait()
    except CompanionLost as error:
        raise StoreUnavailable(str(error)) from error
    if answer.error is not None:
        raise StoreUnavailable(answer.error)
    return answer


class LocalCommitter:
    """Commits in this process: for a store in memory, for tests and for embedding."""

    def __init__(self, writer: EventWriter) -> None:
        self._writer = writer
        self._on_terms: dict[Ticket[Answer], Callable[[], list[Committed]]] = {}

    async def begin(
        self, records: Sequence[Record], now: int, terms: Terms | None = None
    ) -> Ticket[Answer]:
        """Commit at once."""
        ticket = Ticket[Answer]()
        try:
            ticket.settle(Answer(self._writer.commit(records, now, terms)))
        except StoreError as error:
            ticket.settle(Answer(error=str(error)))
        if terms is not None:
            self._on_terms[ticket] = partial(self._writer.commit, records, now, terms)
        return ticket

    async def finish(self, ticket: Ticket[Answer]) -> list[Committed]:
        """Return what `begin` has done, and do what is left of it."""
        again = self._on_terms.pop(ticket, None)
        outcomes = (await _settled(ticket)).outcomes
        while again is not None and is_unfinished(outcomes):
            await trio.lowlevel.checkpoint()
            outcomes = again()
        return outcomes

    async def sweep(self, now: int, max_events: int) -> int:
        """Remove expired events; return how many."""
        return self._writer.sweep(now, max_events)

    async def index(self, position: int) -> None:
        """Index the log up to `position`, bit by bit."""
        while self._writer.unindexed and self._writer.index(_INDEXED_AT_ONCE) < position:
            await trio.lowlevel.checkpoint()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do the store's housekeeping now and then."""
        task_status.started()
        while True:
            await trio.sleep(1)
            self._writer.maintain()
            self._writer.index(_INDEXED_AT_ONCE)


class ProcessCommitter:
    """Commits through the writer process of the store at `location`."""

    def __init__(self, location: str, journal: Journal, *, search: bool = True) -> None:
        self._location = location
        self._arguments = [location] if search else [NO_SEARCH, location]
        self._indexing = trio.Lock()
        self._indexed = 0
        self._companion = Companion(
            "writer", "relay.store.commit_server", self._arguments, decode_answer, journal
        )
        self._on_terms: dict[Ticket[Answer], bytes] = {}

    async def begin(
        self, records: Sequence[Record], now: int, terms: Terms | None = None
    ) -> Ticket[Answer]:
        """Hand a batch over to the process."""
        request = Request(now, COMMIT, [record.raw for record in records], terms=terms)
        body = encode(request)
        ticket = await self._companion.submit(body)
        if terms is not None:
            self._on_terms[ticket] = body
        return ticket

    async def finish(self, ticket: Ticket[Answer]) -> list[Committed]:
        """Wait for the process's answer, the last one if it needs several transactions."""
        body = self._on_terms.pop(ticket, None)
        outcomes = (await _settled(ticket)).outcomes
        while body is not None and is_unfinished(outcomes):
            outcomes = (await _settled(await self._companion.submit(body))).outcomes
        return outcomes

    async def sweep(self, now: int, max_events: int) -> int:
        """Have the process remove expired events; return how many."""
        request = Request(now, SWEEP, amount=max_events)
        return (await _settled(await self._companion.submit(encode(request)))).amount

    async def index(self, position: int) -> None:
        """Have the process index the log up to `position`, one portion after the other."""
        if self._indexed >= position:
            return
        request = encode(Request(0, INDEX, amount=_INDEXED_AT_ONCE))
        # one portion at a time, however many wait for it: commits come in between
        async with self._indexing:
            while self._indexed < position:
                answer = await _settled(await self._companion.submit(request))
                if answer.amount <= self._indexed:
                    return
                self._indexed = answer.amount

    async def run(  # noqa: ASYNC128 - the companion calls it
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep the writer process running until cancelled, then let it finish and wait for it.

        Raises `StoreUnavailable` when the store cannot be opened at the start; later failures are
        logged, and tried again.
        """
        try:
            await self._companion.run(task_status=_Opened(self._note_store, task_status))
        except CompanionLost as error:
            raise StoreUnavailable(str(error)) from error

    def _note_store(self) -> None:
        self._arguments.append(store_identity(parse_location(self._location)))


class _Opened:
    """A task status that lets `note` know before it passes on that the store is open."""

    def __init__(self, note: Callable[[], None], task_status: trio.TaskStatus[None]) -> None:
        self._note = note
        self._task_status = task_status

    def started(self, value: None = None) -> None:
        self._note()
        self._task_status.started(value)
