"""What one peer may ask of this relay, as one frozen value.

The same value is enforced (`messages`, `filters`, `session`, the transport) and advertised
(`information`, NIP-11 `limitation`), so the two cannot differ.
"""

from typing import Final

import msgspec

_REQUESTS: Final = 10
"""What stays open on a connection may be as large as so many of the largest requests."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds for every peer. Sizes are in bytes, times in seconds."""

    max_message_length: int = 512_000
    """Largest incoming message, in bytes of its UTF-8 text."""
    max_subscriptions: int = 200
    """Open subscriptions on one connection."""
    max_filters: int = 100
    """Filters in one REQ or COUNT."""
    max_filter_values: int = 10_000
    """Values in one filter field."""
    max_limit: int = 5_000
    """A filter's `limit` is clamped to this."""
    default_limit: int = 500
    """What a filter without a `limit` gets of stored events."""
    max_subid_length: int = 64
    """Characters in a subscription id (NIP-01: 64)."""
    max_event_tags: int = 20_000
    """Tags in one event."""
    max_content_length: int = 400_000
    """Characters in an event's content."""
    created_at_lower_limit: int | None = None
    """How many seconds in the past an event's `created_at` may lie; `None`: any."""
    created_at_upper_limit: int | None = 900
    """How many seconds in the future an event's `created_at` may lie; `None`: any."""
    min_pow_difficulty: int = 0
    """Leading zero bits that an event's id must have (NIP-13)."""
    require_pow_commitment: bool = False
    """Whether the nonce tag must commit to at least `min_pow_difficulty` as well (NIP-13): who aims
    at less may be lucky."""
    auth_required: bool = False
    """Whether a peer must authenticate before anything else (NIP-42)."""

    @property
    def max_open_filters(self) -> int:
        """Filters of all open subscriptions of one connection together.

        Each may be compared with every new event, at 0.1 µs. Without this bound, 200 subscriptions
        of 100 filters would make every event that anybody publishes cost 2 ms more.
        """
        return _REQUESTS * self.max_filters

    @property
    def max_open_values(self) -> int:
        """Values of all these filters together: each is held in memory, in about 270 bytes."""
        return _REQUESTS * self.max_filter_values
