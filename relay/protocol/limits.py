"""What one peer may ask of this relay, as one frozen value.

The same value is enforced (`messages`, `filters`, `session`, the transport) and advertised
(`information`, NIP-11 `limitation`), so the two cannot differ.
"""

import msgspec


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
    auth_required: bool = False
    """Whether a peer must authenticate before anything else (NIP-42)."""
