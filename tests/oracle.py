"""What a relay must answer: the plain store, given the same events, asked with the same filters."""

import time
from collections.abc import Iterable
from typing import Final

from relay.protocol.event import Event, is_ephemeral, record
from relay.protocol.filters import Filter, parse_filter
from relay.protocol.limits import Limits
from relay.store.memory import MemoryStore
from tests.shapes import FilterObject

LIMITS: Final = Limits()


class Oracle:
    """A `MemoryStore` that was given `events`, in their order, and answers filters as sent."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._now = int(time.time())
        store = MemoryStore()
        kept = [record(event) for event in events if not is_ephemeral(event.kind)]
        store.writer().commit(kept, self._now)
        self._reader = store.reader()

    def rows(self, filters: Iterable[FilterObject], limits: Limits = LIMITS) -> list[bytes]:
        """Return the stored events that match, as canonical JSON, in NIP-01's order."""
        query = self._reader.query(_parsed(filters, limits), limits.default_limit, self._now)
        rows: list[bytes] = []
        while True:
            page = query.page(1_000, 1 << 24, lambda: False)
            rows += page.rows
            if page.finished:
                return rows

    def count(self, filters: Iterable[FilterObject]) -> int:
        """Return how many stored events match (NIP-45)."""
        counting = self._reader.count(_parsed(filters, LIMITS), self._now)
        while not counting.step(lambda: False):
            pass
        return counting.total


def _parsed(filters: Iterable[FilterObject], limits: Limits) -> list[Filter]:
    return [parse_filter(filter_, limits) for filter_ in filters]
