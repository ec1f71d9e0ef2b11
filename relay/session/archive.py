"""Short questions to the store, for rules that must be answered at once.

Each of them is one look into an index, some microseconds, so nobody waits for it. (A store in
memory has no index for tags, and looks at all that it holds.)
"""

from collections.abc import Callable
from typing import Final

from relay.protocol.event import Event, decode_event
from relay.protocol.filters import Filter
from relay.store.api import EventReader

_PAGE_BYTES: Final = 1 << 20


class StoreArchive:
    """What is stored: the `Archive` of `relay.policy.groups`."""

    def __init__(self, reader: EventReader, now: Callable[[], int]) -> None:
        """Ask `reader`; `now` gives the time in Unix seconds."""
        self._reader = reader
        self._now = now

    def find(self, event_id: str) -> Event | None:
        """Return the stored event with this id. Raises `StoreUnavailable`."""
        raw = self.first(Filter(ids=frozenset({event_id})))
        return None if raw is None else decode_event(raw)

    def holds_id(self, prefix: str) -> bool:
        """Tell whether an event is stored whose id begins with these 8 digits.

        Raises `StoreUnavailable`.
        """
        return self._reader.holds_id(prefix, self._now())

    def has_events_of(self, group_id: str) -> bool:
        """Tell whether an event is stored whose `h` tag is this. Raises `StoreUnavailable`."""
        return self.first(Filter(tags=(("h", frozenset({group_id})),))) is not None

    def first(self, filter_: Filter) -> bytes | None:
        """Return the first event that matches, as canonical JSON. Raises `StoreUnavailable`."""
        query = self._reader.query((filter_,), 1, self._now())
        while True:
            page = query.page(1, _PAGE_BYTES, lambda: False)
            if page.rows:
                return page.rows[0]
            if page.finished:
                return None
