"""What requests for deletion, and to vanish, have removed of events that are still at hand.

The store applies such requests for itself (`relay.store`). What is kept in memory to be read again
is compared with the same rules: see `relay.store.semantics`.
"""

from relay.protocol.event import Event
from relay.store.semantics import (
    UNDELETABLE,
    address,
    deletion_request,
    entitled,
)


class Removals:
    """Some requests, and whether an event from before them is gone."""

    def __init__(self) -> None:
        self._ids: set[tuple[str, str]] = set()  # (id, who asked)
        self._addresses: dict[str, int] = {}  # up to which time
        self._vanished: dict[str, tuple[int, str]] = {}  # up to which time, by which request

    def add(self, request: Event) -> None:
        """Take a request of a kind in `REMOVING_KINDS`, one that the store has taken."""
        deletion = deletion_request(request)
        if deletion is None:
            own = (request.created_at, request.id)
            self._vanished[request.pubkey] = max(own, self._vanished.get(request.pubkey, own))
            return
        self._ids.update([(event_id, request.pubkey) for event_id in deletion.ids])
        for name in deletion.addresses:
            self._addresses[name] = max(request.created_at, self._addresses.get(name, 0))

    def removes(self, event: Event) -> bool:
        """Tell whether `event`, published before the requests, is removed by one of them."""
        if self._vanished:
            for one in entitled(event):
                until, request_id = self._vanished.get(one, (-1, ""))
                if event.created_at <= until and event.id != request_id:
                    return True
        if event.kind in UNDELETABLE:
            return False
        if self._ids and any((event.id, one) in self._ids for one in entitled(event)):
            return True
        if not self._addresses:
            return False
        name = address(event)
        return name is not None and event.created_at <= self._addresses.get(name, -1)
