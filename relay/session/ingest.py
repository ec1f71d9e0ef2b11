"""Taking events in: one pipeline for all connections of the process.

    submit → waiting → [prepare: id, duplicate, signature] → begin commit → finish → OK → publish

Two tasks: `_prepare` takes whatever waits (one event when idle, hundreds under load), verifies it
and hands the batch to the writer; `_conclude` waits for the batch to be durable, answers every
event, and publishes. While one batch is being written the next is being verified. Both keep
the order of arrival.

An event is answered exactly once: OK after its commit (P2), or a refusal. What is submitted and
not yet answered is bounded for each connection by its reader, and for all by `is_full`.

Known duplicates are answered before the signature is looked at: the id was recomputed from the
content, so it can only be that very event. The memory of recent ids holds stored events only,
which no attacker can bring about without a valid signature.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import trio

from relay.errors import StoreError
from relay.protocol.event import KIND_DELETION, Event, Record, canonical_json, is_ephemeral
from relay.protocol.messages import ok, ok_stored
from relay.protocol.verify import BAD_ID, event_digest
from relay.session.committer import Committer, Ticket
from relay.session.core import Core
from relay.session.frames import text_frame
from relay.session.publisher import Publisher
from relay.session.writer import Writer
from relay.store.api import Committed, LogEntry, Outcome

_LARGEST_BATCH: Final = 128
"""More would let verifying and committing take turns instead of going on at the same time: with 500
events in flight, batches of 512 were taken in at 0.8 of strfry's rate, of 128 at its full rate."""
_LARGEST_BATCH_BYTES: Final = 4 << 20
_VERIFIED_PER_CHECKPOINT: Final = 32
"""About a millisecond of signature checks, then the others' turn."""
_BATCHES_UNDER_WAY: Final = 2
_RECENT_IDS: Final = 65_536

_DUPLICATE: Final = "duplicate: this event is already stored"
_DELIVERED: Final = "duplicate: this event was already delivered"
_ANSWERS: Final = {
    Outcome.DUPLICATE: (True, _DUPLICATE),
    Outcome.SUPERSEDED: (True, "duplicate: a newer version of this event is already stored"),
    Outcome.DELETED: (False, "blocked: its author has asked for the deletion of this event"),
    Outcome.EXPIRED: (False, "invalid: the event has expired"),
}
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


class _Batch(NamedTuple):
    submissions: list[_Submission]
    records: list[Record]
    ticket: Ticket | None
    """`None` when nothing of the batch is to be stored."""


class Ingest:
    """The pipeline. `submit` from any connection, `run` as one service."""

    def __init__(
        self,
        core: Core,
        committer: Committer,
        publisher: Publisher,
        *,
        max_waiting: int = 4096,
    ) -> None:
        self._core = core
        self._committer = committer
        self._publisher = publisher
        self._max_waiting = max_waiting
        self._waiting: deque[_Submission] = deque()
        self._arrival = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._quiet = trio.lowlevel.ParkingLot()
        self._unanswered = 0

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
        self._waiting.append(_Submission(event, publisher))
        self._arrival.unpark()

    async def wait_room(self) -> None:
        """Wait until `is_full` is false. Cancellation is harmless."""
        while self.is_full:
            await self._room.park()

    async def wait_quiet(self) -> None:
        """Wait until every submitted event has been answered. Cancellation is harmless."""
        while self._unanswered:
            await self._quiet.park()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the pipeline until cancelled.

        Cancelled, it leaves events unanswered: drain with `wait_quiet` first.
        """
        batches, prepared = trio.open_memory_channel[_Batch](_BATCHES_UNDER_WAY - 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._prepare, batches)
            nursery.start_soon(self._conclude, prepared)
            task_status.started()

    async def _prepare(self, batches: trio.MemorySendChannel[_Batch]) -> None:
        while True:
            while not self._waiting:
                await self._arrival.park()
            submissions = await self._verified(self._take())
            if submissions:
                stored = [one for one in submissions if not is_ephemeral(one[0].event.kind)]
                records = [record for _, record in stored]
                ticket = None
                if records:
                    ticket = await self._committer.begin(records, self._core.now())
                batch = _Batch(
                    [submission for submission, _ in submissions],
                    [record for _, record in submissions],
                    ticket,
                )
                await batches.send(batch)

    def _take(self) -> list[_Submission]:
        waiting = self._waiting
        taken: list[_Submission] = []
        size = 0
        while waiting and len(taken) < _LARGEST_BATCH and size < _LARGEST_BATCH_BYTES:
            submission = waiting.popleft()
            taken.append(submission)
            size += len(submission.event.content) + 64 * len(submission.event.tags)
        if not self.is_full:
            self._room.unpark_all()
        return taken

    async def _verified(self, submissions: list[_Submission]) -> list[tuple[_Submission, Record]]:
        """Answer what is refused or known; return the rest with its canonical JSON."""
        verifier, recent = self._core.verifier, self._core.recent_ids
        good: list[tuple[_Submission, Record]] = []
        touched: dict[Writer, None] = {}
        for number, submission in enumerate(submissions, 1):
            event = submission.event
            digest = event_digest(event)
            if digest is None:
                self._answer(submission, ok(event.id, accepted=False, reason=BAD_ID), touched)
            elif event.id in recent:
                self._answer(submission, ok(event.id, accepted=True, reason=_DUPLICATE), touched)
            else:
                problem = verifier.problem(event, digest)
                if problem is None:
                    if event.kind == KIND_DELETION:
                        # what follows it must be judged by the store; and see `Publisher`
                        recent.clear()
                    good.append((submission, Record(event, canonical_json(event))))
                else:
                    refusal = ok(event.id, accepted=False, reason=problem)
                    self._answer(submission, refusal, touched)
            if number % _VERIFIED_PER_CHECKPOINT == 0:
                await trio.lowlevel.checkpoint()
        for writer in touched:
            writer.flush()
        return good

    async def _conclude(self, batches: trio.MemoryReceiveChannel[_Batch]) -> None:
        async for batch in batches:
            outcomes: Sequence[Committed] = ()
            failure = None
            if batch.ticket is not None:
                try:
                    outcomes = await self._committer.finish(batch.ticket)
                except StoreError as error:
                    failure = f"error: {error}"
                    self._core.journal("error", "commit failed", reason=str(error))
            touched: dict[Writer, None] = {}
            entries = self._answer_batch(batch, outcomes, failure, touched)
            await self._publisher.publish(entries, touched)

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
                    answer = ok(event_id, accepted=True, reason=_DELIVERED)
                    self._answer(submission, answer, touched, accepted=True)
                    continue
                counters.events_ephemeral += 1
                delivered[event_id] = None
                entries.append(LogEntry(0, record))
                self._answer(submission, ok_stored(event_id), touched, accepted=True)
            elif failure is not None:
                refusal = ok(event_id, accepted=False, reason=failure)
                self._answer(submission, refusal, touched)
            else:
                outcome, seq = next(committed)
                if outcome is Outcome.STORED:
                    counters.events_stored += 1
                    recent[event_id] = None
                    entries.append(LogEntry(seq, record))
                    self._answer(submission, ok_stored(event_id), touched, accepted=True)
                else:
                    accepted, reason = _ANSWERS[outcome]
                    answer = ok(event_id, accepted=accepted, reason=reason)
                    self._answer(submission, answer, touched, accepted=accepted)
        for ids in (recent, delivered):
            while len(ids) > _RECENT_IDS:
                del ids[next(iter(ids))]
        return entries

    def _answer(
        self,
        submission: _Submission,
        answer: bytes,
        touched: dict[Writer, None],
        *,
        accepted: bool = False,
    ) -> None:
        publisher = submission.publisher
        publisher.writer.stage_answer(text_frame(answer))
        publisher.answered()
        touched[publisher.writer] = None
        if not accepted:
            self._core.counters.events_refused += 1
        self._unanswered -= 1
        if not self._unanswered:
            self._quiet.unpark_all()
