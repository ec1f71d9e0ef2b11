"""The near end of the log, in memory: what has been published, and the last stretch of it.

`position` is the seq up to which every live subscription has been told. It follows the commits of
this process and of others, strictly in order. A subscription that fell behind reads on from here
while its position is within the kept stretch (no decoding, no disk), and from the store otherwise.

What is deleted meanwhile is not to be read here any more. There are many requests for that and few
who read here: so requests are only noted, and applied, all at once, before somebody reads.
"""

from collections import deque
from itertools import islice

from relay.live.removals import Removals
from relay.protocol.event import REMOVING_KINDS, Event
from relay.store.api import LogEntry


class RecentLog:
    """A bounded window on the end of the log. Only stored events (seq > 0) are kept."""

    def __init__(self, position: int, *, max_entries: int = 4096, max_bytes: int = 8 << 20) -> None:
        self._entries: deque[LogEntry] = deque()
        self._bytes = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._start = position
        self._requests: list[Event] = []
        self.position = position
        """Everything up to this seq has been published in this process."""

    def append(self, entry: LogEntry) -> None:
        """Add the next published entry; the oldest make room."""
        self.position = entry.seq
        self._entries.append(entry)
        self._bytes += len(entry.record.raw)
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            oldest = self._entries.popleft()
            self._bytes -= len(oldest.record.raw)
            self._start = oldest.seq
        if entry.record.event.kind in REMOVING_KINDS:
            self._requests.append(entry.record.event)
            if len(self._requests) > self._max_entries:
                self._leave_out_what_is_removed()

    def forget(self) -> None:
        """Let go of what is kept; the store has it all."""
        self._entries.clear()
        self._requests.clear()
        self._bytes = 0
        self._start = self.position

    def skip_to(self, position: int) -> None:
        """Note that up to `position` nothing more is to be shown (events removed since)."""
        self.position = max(self.position, position)

    def after(self, position: int, max_entries: int) -> list[LogEntry] | None:
        """Return the entries after `position`, in order; `None` when they are no longer kept."""
        if position < self._start:
            return None
        if self._requests:
            self._leave_out_what_is_removed()
        entries = self._entries
        if not entries or position >= entries[-1].seq:
            return []
        low, high = 0, len(entries)
        while low < high:
            middle = (low + high) // 2
            if entries[middle].seq <= position:
                low = middle + 1
            else:
                high = middle
        return list(islice(entries, low, low + max_entries))

    def _leave_out_what_is_removed(self) -> None:
        removals = Removals()
        for request in self._requests:
            removals.add(request)
        self._requests.clear()
        kept = [entry for entry in self._entries if not removals.removes(entry.record.event)]
        self._entries = deque(kept)
        self._bytes = sum([len(entry.record.raw) for entry in kept])
