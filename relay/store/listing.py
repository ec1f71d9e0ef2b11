"""Listings: the time and id of every event that matches a filter, for set reconciliation (NIP-77).

A listing is a query that gives items instead of events, so it sees what a query sees: the same
order, the same guard, nothing that has expired or was replaced. An item is cut out of the event's
canonical JSON, whose beginning has a fixed layout, without decoding it:

    {"id":"<64>","pubkey":"<64>","created_at":<digits>,"kind":…
"""

from binascii import unhexlify
from typing import Final

from relay.store.api import Budget, Listed, Query

ALL: Final = 1 << 62
"""The limit of a filter that has none: a listing leaves nothing out."""

_ID: Final = slice(7, 71)
_CREATED_AT: Final = 162
_COMMA: Final = b","
_ROWS_AT_ONCE: Final = 2_000
_BYTES_AT_ONCE: Final = 8 << 20


class QueryListing:
    """The `Listing` of a query."""

    def __init__(self, query: Query) -> None:
        self._query = query

    @property
    def position(self) -> int:
        """The log's head when the listing began."""
        return self._query.position

    def step(self, budget: Budget) -> Listed:
        """List on; see `Listing.step`."""
        page = self._query.page(_ROWS_AT_ONCE, _BYTES_AT_ONCE, budget)
        return Listed([_item(raw) for raw in page.rows], page.finished)


def _item(raw: bytes) -> bytes:
    created_at = int(raw[_CREATED_AT : raw.index(_COMMA, _CREATED_AT)])
    return created_at.to_bytes(8) + unhexlify(raw[_ID])
