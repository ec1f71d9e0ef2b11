"""Taking events in: one pipeline for all connections of the process.

    submit → waiting → [examine: id, duplicate, signature] → [commit] → [conclude: OK → publish]

Three tasks, so that a batch is examined while the one before is verified elsewhere or written:

- `_examine` takes whatever waits (one event when idle, a hundred under load), compares ids, answers
  known duplicates, and checks the signatures, or has a companion check them (`verification`);
- `_commit` waits for those, refuses what is forged, and hands the rest to the store's writer;
- `_conclude` waits for the batch to be durable, answers every event, and publishes.

All keep the order of arrival.

An event is answered exactly once: OK after its commit (P2), or a refusal. What is submitted and
not yet answered is bounded for each connection by its reader, and for all by `is_full`.

Known duplicates are answered before the signature is looked at: the id was recomputed from the
content, so it can only be that very event. The memory of recent ids holds stored events only,
which no attacker can bring about without a valid signature, and only such as are never replaced.
From when a request for deletion, or to vanish, is examined until it is answered nothing is compared
with that memory, and then it is emptied: what was stored may have to be refused behind it. Only a
genuine request does that: so its signature is checked at once, and once more with its batch.

A request to vanish whose author has written much is answered as unfinished: some of that is gone.
It is committed again, until all is (`_finish_removals`), and is answered and published then, while
others go on.
"""

import math
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

import trio

from relay.errors import CompanionLost, StoreError
from relay.protocol.event import (
    REMOVING_KINDS,
    Event,
    KindClass,
    Record,
    canonical_json,
    is_ephemeral,
    kind_class,
)
from relay.protocol.messages import ok, ok_stored
from relay.protocol.verify import BAD_ID, event_digest
from relay.session.committer import Committer
from relay.session.companion import Ticket
from relay.session.core import Core
from relay.session.frames import text_frame
from relay.session.publisher import Publisher
from relay.session.verification import Verification
from relay.session.verify_server import PROBLEMS
from relay.session.writer import Writer
from relay.store.api import Committed, LogEntry, Outcome
from relay.store.commit_protocol import Answer

_LARGEST_BATCH: Final = 128
"""More would let verifying and committing take turns instead of going on at the same time: with 500
events in flight, batches of 512 were taken in at 0.8 of strfry's rate, of 128 at its full rate."""
_LARGEST_BATCH_BYTES: Final = 4 << 20
_VERIFIED_PER_CHECKPOINT: Final = 32
"""About a millisecond of signature checks, then the others' turn."""
_PATIENCE: Final = 1.0
"""Seconds after which a companion's batch, which takes it some milliseconds, is checked here."""
_BATCHES_EXAMINED: Final = 2
"""Batches that wait to be handed to the store's writer."""
_COMMITS_UNDER_WAY: Final = 3
"""One that is written and those that wait for it. When there are as many, events share a commit."""
_LARGEST_COMMIT: Final = 256
"""About so many events at most. Mixed kinds in commits of 512 cost 43 µs an event, of 128 58."""

_DUPLICATE: Final = "duplicate: this event is already stored"
_DELIVERED: Final = "duplicate: this event was already delivered"
_KNOWN: Final = {
    Outcome.DUPLICATE: _DUPLICATE,
    Outcome.SUPERSEDED: "duplicate: a newer version of this event is already stored",
}
REFUSED: Final = {
    Outcome.BURIED: "blocked: the relay has removed this event",
    Outcome.DELETED: "blocked: its author has asked for the deletion of this event",
    Outcome.EXPIRED: "invalid: the event has expired",
    Outcome.VANISHED: "blocked: its author or recipient has asked to vanish from this relay",
}
_COMPLAINT_INTERVAL: Final = 1.0
SHUTTING_DOWN: Final = "error: shutting down"


class Publishing(Protocol):
    """Whoever submitted an event, and waits for its OK."""

    @property
    def writer(self) -> Writer:
        """Where the answer goes."""
        ...

    def answered(self) -> None:
        """Note that one more of its events has been answered."""
        ...


class _Submission(NamedTuple):
    event: Event
    publisher: Publishing


class _Examined(NamedTuple):
    """Events whose ids are right and new; their signatures are good, or being checked."""

    submissions: list[_Submission]
    digests: list[bytes]
    """Of the events whose signatures are being checked."""
    verdicts: Ticket[bytes] | None
    """`None` when the signatures are good."""


class _Batch(NamedTuple):
    submissions: list[_Submission]
    records: list[Record]
    ticket: Ticket[Answer] | None
    """`None` when nothing of the batch is to be stored."""


class Ingest:
    """The pipeline. `submit` from any connection, `run` as one service."""

    def __init__(
        self,
        core: Core,
        committer: Committer,
        publisher: Publisher,
        verification: Verification,
        *,
        max_waiting: int = 4096,
    ) -> None:
        self._core = core
        self._committer = committer
        self._publisher = publisher
        self._verification = verification
        self._max_waiting = max_waiting
        self._waiting: deque[_Submission] = deque()
        self._arrival = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._quiet = trio.lowlevel.ParkingLot()
        self._under_way = 0
        self._progress = trio.lowlevel.ParkingLot()
        self._removing: set[str] = set()
        # each is an event without an answer, of which a connection has not many
        self._unfinished_sender, self._unfinished = trio.open_memory_channel[
            tuple[_Submission, Record]
        ](math.inf)
        self._failures = 0
        self._next_complaint = -math.inf
        self._unanswered = 0
        self._submitted = 0
        self._settling = trio.lowlevel.ParkingLot()
        self._are_awaited = False

    @property
    def unanswered(self) -> int:
        """Events that were submitted and have no answer yet."""
        return self._unanswered

    @property
    def is_full(self) -> bool:
        """Whether readers should pause before the next submission."""
        return len(self._waiting) >= self._max_waiting

    def submit(self, event: Event, publisher: Publishing) -> None:
        """Take one event; its OK will be staged on the publisher's writer, and flushed."""
        self._unanswered += 1
        self._submitted += 1
        self._waiting.append(_Submission(event, publisher))
        if self._arrival:
            self._arrival.unpark()

    async def wait_room(self) -> None:
        """Wait until `is_full` is false. Cancellation is harmless."""
        while self.is_full:
            await self._room.park()

    async def wait_quiet(self) -> None:
        """Wait until every submitted event has been answered. Cancellation is harmless."""
        while self._unanswered:
            await self._quiet.park()

    async def wait_settled(self) -> None:
        """Wait until as many events have been answered as were submitted up to now.

        Nearly all are answered in the order in which they came, so these are the ones. Cancellation
        is harmless.
        """
        submitted = self._submitted
        while self._submitted - self._unanswered < submitted:
            self._are_awaited = True
            await self._settling.park()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the pipeline until cancelled.

        Cancelled, it leaves events unanswered: drain with `wait_quiet` first.
        """
        examined = trio.open_memory_channel[_Examined](_BATCHES_EXAMINED)
        committing = trio.open_memory_channel[_Batch](_COMMITS_UNDER_WAY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._verification.run)
            nursery.start_soon(self._examine, examined[0])
            nursery.start_soon(self._commit, examined[1], committing[0])
            nursery.start_soon(self._conclude, committing[1])
            nursery.start_soon(self._finish_removals)
            task_status.started()

    async def _examine(self, examined: trio.MemorySendChannel[_Examined]) -> None:
        while True:
            while not self._waiting:
                await self._arrival.park()
            batch = await self._examined(self._take())
            if batch.submissions:
                await examined.send(batch)
                if self._progress:
                    self._progress.unpark_all()

    async def _commit(
        self,
        examined: trio.MemoryReceiveChannel[_Examined],
        committing: trio.MemorySendChannel[_Batch],
    ) -> None:
        async for batch in examined:
            submissions = await self._genuine(batch)
            records = _records(submissions)
            while self._under_way >= _COMMITS_UNDER_WAY and not _is_large(records):
                # the writer is busy: what has been examined meanwhile shares the next commit
                try:
                    more = await self._genuine(examined.receive_nowait())
                except trio.WouldBlock:
                    await self._progress.park()
                else:
                    submissions += more
                    records += _records(more)
            stored = [record for record in records if not is_ephemeral(record.event.kind)]
            ticket = None
            if stored:
                ticket = await self._committer.begin(stored, self._core.now())
            if records:
                self._under_way += 1
                await committing.send(_Batch(submissions, records, ticket))

    def _take(self) -> list[_Submission]:
        waiting = self._waiting
        taken: list[_Submission] = []
        size = 0
        while waiting and len(taken) < _LARGEST_BATCH and size < _LARGEST_BATCH_BYTES:
            submission = waiting.popleft()
            taken.append(submission)
            size += len(submission.event.content) + 64 * len(submission.event.tags)
        if self._room and not self.is_full:
            self._room.unpark_all()
        return taken

    async def _examined(self, submissions: list[_Submission]) -> _Examined:
        """Answer what is refused or known; return the rest, checked or under way to be."""
        recent, verifier = self._core.recent_ids, self._core.verifier
        touched: dict[Writer, None] = {}
        new: list[_Submission] = []
        digests: list[bytes] = []
        for submission in submissions:
            event = submission.event
            digest = event_digest(event)
            if digest is None:
                self._refuse(submission, BAD_ID, touched)
            elif event.id in recent and not self._removing:
                self._answer_known(submission, _DUPLICATE, touched)
            else:
                if event.kind in REMOVING_KINDS and verifier.problem(event, digest) is None:
                    # what follows it must be judged by the store
                    self._removing.add(event.id)
                new.append(submission)
                digests.append(digest)
        checks = [(submission.event, d) for submission, d in zip(new, digests, strict=True)]
        verdicts = await self._verification.begin(checks)
        if verdicts is None:
            new, digests = await self._check(new, digests, touched), []
        _flush(touched)
        return _Examined(new, digests, verdicts)

    async def _check(
        self, submissions: list[_Submission], digests: list[bytes], touched: dict[Writer, None]
    ) -> list[_Submission]:
        """Check signatures here; return what is genuine."""
        verifier = self._core.verifier
        good: list[_Submission] = []
        for number, submission in enumerate(submissions):
            event = submission.event
            problem = verifier.problem(event, digests[number])
            if problem is None:
                good.append(submission)
            else:
                self._refuse(submission, problem, touched)
            if number % _VERIFIED_PER_CHECKPOINT == _VERIFIED_PER_CHECKPOINT - 1:
                await trio.lowlevel.checkpoint()
        return good

    async def _genuine(self, batch: _Examined) -> list[_Submission]:
        """Return what is genuine, and refuse what a companion found to be forged."""
        if batch.verdicts is None:
            return batch.submissions
        touched: dict[Writer, None] = {}
        answer = await self._verdicts(batch.verdicts)
        if answer is None:
            good = await self._check(batch.submissions, batch.digests, touched)
        else:
            good = []
            for submission, verdict in zip(batch.submissions, answer, strict=True):
                problem = PROBLEMS[verdict]
                if problem is None:
                    good.append(submission)
                else:
                    self._refuse(submission, problem, touched)
        _flush(touched)
        return good

    async def _verdicts(self, ticket: Ticket[bytes]) -> bytes | None:
        """Wait for a companion's verdicts; `None` when it is lost, or stuck."""
        with trio.move_on_after(_PATIENCE):
            try:
                return await ticket.wait()
            except CompanionLost:
                return None
        self._core.journal("warning", "verifier stuck", seconds=_PATIENCE)
        return None

    async def _conclude(self, batches: trio.MemoryReceiveChannel[_Batch]) -> None:
        async for batch in batches:
            outcomes: Sequence[Committed] = ()
            failure = None
            if batch.ticket is not None:
                try:
                    outcomes = await self._committer.finish(batch.ticket)
                except StoreError as error:
                    failure = f"error: {error}"
                    self._complain(str(error))
            touched: dict[Writer, None] = {}
            entries = self._answer_batch(batch, outcomes, failure, touched)
            self._under_way -= 1
            if self._progress:
                self._progress.unpark_all()
            await self._publisher.publish(entries, touched)

    def _complain(self, reason: str) -> None:
        """Log a failed commit; of many in a row, which a full disk makes, one a second."""
        self._failures += 1
        if trio.current_time() >= self._next_complaint:
            self._core.journal("error", "commit failed", reason=reason, commits=self._failures)
            self._failures = 0
            self._next_complaint = trio.current_time() + _COMPLAINT_INTERVAL

    def _answer_batch(
        self,
        batch: _Batch,
        outcomes: Sequence[Committed],
        failure: str | None,
        touched: dict[Writer, None],
    ) -> list[LogEntry]:
        """Stage every OK of the batch; return what is to be published."""
        counters, recent = self._core.counters, self._core.recent_ids
        delivered = self._core.recent_ephemeral_ids
        entries: list[LogEntry] = []
        committed = iter(outcomes)
        for submission, record in zip(batch.submissions, batch.records, strict=True):
            event_id = record.event.id
            if is_ephemeral(record.event.kind):
                if event_id in delivered:
                    self._answer_known(submission, _DELIVERED, touched)
                    continue
                counters.events_ephemeral += 1
                delivered.add(event_id)
                entries.append(LogEntry(0, record))
                self._answer(submission, ok_stored(event_id), touched)
            elif failure is not None:
                self._refuse(submission, failure, touched)
            else:
                outcome, seq = next(committed)
                if outcome is Outcome.STORED:
                    counters.events_stored += 1
                    if kind_class(record.event.kind) is KindClass.REGULAR:
                        # others can be replaced, and what has replaced them can expire
                        recent.add(event_id)
                    entries.append(LogEntry(seq, record))
                    self._answer(submission, ok_stored(event_id), touched)
                elif outcome is Outcome.UNFINISHED:
                    self._unfinished_sender.send_nowait((submission, record))
                elif outcome in _KNOWN:
                    self._answer_known(submission, _KNOWN[outcome], touched)
                else:
                    self._refuse(submission, REFUSED[outcome], touched)
        return entries

    async def _conclude_finished(
        self, submission: _Submission, touched: dict[Writer, None]
    ) -> None:
        """Answer a request that the writer itself has gone on with, and has stored in the end."""
        self._core.counters.events_stored += 1
        self._answer(submission, ok_stored(submission.event.id), touched)
        with suppress(StoreError):  # else it is found by the next look at the log
            await self._publisher.follow()
        _flush(touched)

    async def _finish_removals(self) -> None:
        """Commit again what has more to remove, one at a time, and answer when it is done."""
        async for submission, record in self._unfinished:
            committed = [Committed(Outcome.UNFINISHED, 0)]
            failure = None
            while committed[0].outcome is Outcome.UNFINISHED and failure is None:
                try:
                    ticket = await self._committer.begin([record], self._core.now())
                    committed = await self._committer.finish(ticket)
                except StoreError as error:
                    failure = f"error: {error}"
                    self._complain(str(error))
            touched: dict[Writer, None] = {}
            if committed[0].outcome is Outcome.DUPLICATE:
                await self._conclude_finished(submission, touched)
                continue
            batch = _Batch([submission], [record], None)
            entries = self._answer_batch(batch, committed, failure, touched)
            await self._publisher.publish(entries, touched)

    def _refuse(self, submission: _Submission, reason: str, touched: dict[Writer, None]) -> None:
        self._core.counters.events_refused += 1
        self._answer(submission, ok(submission.event.id, accepted=False, reason=reason), touched)

    def _answer_known(
        self, submission: _Submission, reason: str, touched: dict[Writer, None]
    ) -> None:
        self._core.counters.events_duplicate += 1
        self._answer(submission, ok(submission.event.id, accepted=True, reason=reason), touched)

    def _answer(self, submission: _Submission, answer: bytes, touched: dict[Writer, None]) -> None:
        if self._removing and submission.event.id in self._removing:
            self._core.recent_ids.clear()
            self._removing.discard(submission.event.id)
        publisher = submission.publisher
        publisher.writer.stage_answer(text_frame(answer))
        publisher.answered()
        touched[publisher.writer] = None
        self._unanswered -= 1
        if self._are_awaited:
            self._are_awaited = False
            self._settling.unpark_all()
        if not self._unanswered:
            self._quiet.unpark_all()


def _records(submissions: Sequence[_Submission]) -> list[Record]:
    return [Record(event, canonical_json(event)) for event, _ in submissions]


def _is_large(records: Sequence[Record]) -> bool:
    if len(records) >= _LARGEST_COMMIT:
        return True
    return sum([len(record.raw) for record in records]) >= _LARGEST_BATCH_BYTES


def _flush(touched: dict[Writer, None]) -> None:
    for writer in touched:
        writer.flush()
