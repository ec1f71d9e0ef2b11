"""Live events that wait for room in their connection's queue: few, and not many bytes.

Only the back-pressure policies that let events wait have need of it. An event is kept as it was
published, and its frame is made when there is room: what waits for a hundred laggards is in memory
once.
"""

from collections import deque

from relay.session.framing import Published


class Backlog:
    """Events of one subscription in log order, ephemeral ones (seq 0) among them."""

    __slots__ = ("_bytes", "_entries", "_max_bytes", "_max_events")

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._entries: deque[tuple[int, Published]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def has_room(self) -> bool:
        """Whether another event may wait: of any size, so that none is too large for ever."""
        return len(self._entries) < self._max_events and self._bytes < self._max_bytes

    def append(self, seq: int, event: Published) -> None:
        """Let an event wait, whether or not there is room."""
        self._entries.append((seq, event))
        self._bytes += len(event.tail)

    def popleft(self) -> tuple[int, Published]:
        """Take the oldest event out."""
        entry = self._entries.popleft()
        self._bytes -= len(entry[1].tail)
        return entry
