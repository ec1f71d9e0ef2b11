"""Events that are made for one request: signed by the relay on the spot, stored nowhere.

NIP-43 has invite codes asked for by a REQ. What is made is sent before anything stored, to this one
subscription, and nobody else ever sees it.
"""

from collections.abc import Callable

from relay.policy.ruling import Draft
from relay.policy.verdict import Client
from relay.protocol.event import canonical_json
from relay.protocol.filters import Filter, matches_any
from relay.protocol.identity import Identity

Offering = Callable[[tuple[Filter, ...], Client, int], tuple[Draft, ...]]
"""(filters, who asks, now in Unix seconds) → what is made for it; nearly always nothing."""


class Offers:
    """What a relay with this identity makes for a request."""

    def __init__(self, identity: Identity, offering: Offering) -> None:
        self._identity = identity
        self._offering = offering

    def __call__(self, filters: tuple[Filter, ...], client: Client, now: int) -> list[bytes]:
        """Return the canonical JSON of what was made and matches the request."""
        made = [
            self._identity.sign(draft.kind, now, draft.tags, draft.content)
            for draft in self._offering(filters, client, now)
        ]
        return [canonical_json(event) for event in made if matches_any(filters, event)]
