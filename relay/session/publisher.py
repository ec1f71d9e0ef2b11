"""From the log to the subscriptions: the one path by which a new event reaches anybody (F1).

Entries are published strictly in log order, each once. What other processes have committed is
found by a gap in the seqs or by a look at the store's head, and read from there.

For one event: the matcher says who wants it; its frame is built once for each subscription id
(many clients use the same); every subscription hands it to its connection's writer.

Of a burst the writers only collect, and each touched writer is flushed once after the whole batch:
one send per connection. Between flushes others may run: whatever is sent on a connection meanwhile
first sends what was collected, so the order stays.

An event that comes alone has nothing to be collected with, and is written through at once (2.7 to
3.0 µs of CPU a delivery to 500 in a loop instead of 3.3, of which the send is 2.2). Others may run
between these deliveries, too. So it is in the log before the first of them: a subscription that
comes to the log's end meanwhile reads it there, and one that has it already, by its position, is
passed over.
"""

from collections.abc import Sequence
from typing import Final

import trio

from relay.errors import StoreError
from relay.protocol.event import REMOVING_KINDS, Record, has_expired
from relay.session.core import Core, Listener
from relay.session.framing import Published
from relay.session.writer import Writer
from relay.store.api import LogEntry

_SENDS_PER_CHECKPOINT: Final = 64
"""About a fifth of a millisecond of sends, then the others' turn."""

_GAP_ENTRIES: Final = 512
_GAP_BYTES: Final = 1 << 20


class Publisher:
    """Tells the live subscriptions what was committed."""

    def __init__(self, core: Core) -> None:
        self._core = core
        # ingest and the follower both publish; the log has one end
        self._turn = trio.StrictFIFOLock()

    async def publish(self, entries: Sequence[LogEntry], answered: dict[Writer, None]) -> None:
        """Publish entries in order, and flush the writers that `answered` names as well.

        Stored entries that were published already are passed over. Those behind a gap that cannot
        be read now are left to `follow`, which reads on from the log's position. Not to be
        cancelled half way unless the whole server ends.
        """
        log = self._core.log
        async with self._turn:
            for entry in entries:
                if entry.seq > log.position + 1:
                    try:
                        await self._publish_foreign(entry.seq - 1, answered)
                    except StoreError as error:
                        reason = str(error)
                        self._core.journal("error", "cannot follow the log", reason=reason)
                if entry.seq == 0 or entry.seq == log.position + 1:
                    if len(entries) == 1:
                        await self._tell_at_once(entry)
                    else:
                        self._tell(entry, answered)
            await _flush(answered)

    async def follow(self) -> None:
        """Publish what others have committed. Costs a few µs when there is nothing new.

        Raises `StoreUnavailable`.
        """
        head = self._core.reader.head()
        if head > self._core.log.position:
            async with self._turn:
                touched: dict[Writer, None] = {}
                await self._publish_foreign(head, touched)
                await _flush(touched)

    def _tell(self, entry: LogEntry, touched: dict[Writer, None]) -> None:
        seq, record = entry
        listeners = self._listeners(record)
        if listeners:
            event = Published(record.raw)
            delivered = 0
            for subscription in listeners:
                if subscription.deliver(seq, event):
                    delivered += 1
                    touched[subscription.writer] = None
            self._core.counters.deliveries += delivered
        self._note(entry)

    async def _tell_at_once(self, entry: LogEntry) -> None:
        seq, record = entry
        event = Published(record.raw)
        listeners = self._listeners(record)
        self._note(entry)
        delivered = 0
        for number, subscription in enumerate(listeners, 1):
            delivered += subscription.deliver_at_once(seq, event)
            if number % _SENDS_PER_CHECKPOINT == 0:
                await trio.lowlevel.checkpoint()
        self._core.counters.deliveries += delivered

    def _listeners(self, record: Record) -> list[Listener]:
        """Return who wants an event and may see it; nobody, if it has expired meanwhile (NIP-40).

        A copy: a delivery may end a connection, and its subscriptions (see `BackPressure`), and
        others may come and go between two of them.
        """
        event, raw = record
        matching = self._core.matcher.match(event)
        if not matching or has_expired(raw, self._core.now()):
            return []
        reading = self._core.reading
        if reading.concerns(event):
            return [one for one in matching if reading.may_read(event, one.reader)]
        return list(matching)

    def _note(self, entry: LogEntry) -> None:
        """Make `entry` the last one of the published log."""
        core = self._core
        seq, (event, _) = entry
        if event.kind in REMOVING_KINDS:
            # some of them may be gone now, and be answered differently when sent again
            core.recent_ids.clear()
        if event.kind in core.noted_kinds:
            core.note(event)
        if seq:
            core.log.append(entry)

    async def _publish_foreign(self, until: int, touched: dict[Writer, None]) -> None:
        log, reader = self._core.log, self._core.reader
        while log.position < until:
            before = log.position
            tail = reader.tail(before, _GAP_ENTRIES, _GAP_BYTES, self._core.now())
            entries = [entry for entry in tail.entries if entry.seq <= until]
            # who may see the first of them may depend on what another of its transaction says
            for _, (event, _) in entries:
                if event.kind in self._core.noted_kinds:
                    self._core.note(event)
            for entry in entries:
                self._tell(entry, touched)
            if tail.position <= before:
                log.skip_to(until)
            log.skip_to(min(until, tail.position))
            await trio.lowlevel.checkpoint()


async def _flush(touched: dict[Writer, None]) -> None:
    for flushed, writer in enumerate(touched, 1):
        writer.flush()
        if flushed % _SENDS_PER_CHECKPOINT == 0:
            await trio.lowlevel.checkpoint()
