"""What an operator decides about groups."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Creators = Literal["everyone", "members", "admins", "nobody"]
Unmanaged = Literal["accept", "refuse"]


class GroupSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Relay-based groups (NIP-29; see [groups](groups.md))."""

    enabled: bool = True
    """Whether this relay keeps groups. If not, the kinds and tags of NIP-29 mean nothing to it: so
    a relay can be a replica of another relay's groups."""
    creators: Creators = "everyone"
    """Who may create a group: `everyone` who may write to this relay, the relay's `members`, its
    `admins`, or `nobody`."""
    max_groups: Annotated[int, Meta(ge=0, le=100_000)] = 1_000
    """The most groups. Each takes 2.5 kB of memory, and 140 bytes for each member."""
    max_members: Annotated[int, Meta(ge=1, le=5_000)] = 1_000
    """The most members of one group. With each that comes or goes the whole list is published anew:
    71 bytes for each member."""
    max_subgroups: Annotated[int, Meta(ge=0, le=1_000)] = 100
    """The most groups directly under one group."""
    max_invites: Annotated[int, Meta(ge=0, le=1_000)] = 100
    """The most invite codes of one group at one time."""
    max_pins: Annotated[int, Meta(ge=0, le=1_000)] = 50
    """The most pinned events of one group."""
    min_references: Annotated[int, Meta(ge=0, le=50)] = 0
    """How many references to earlier events (`previous` tags) an event that is sent to a group must
    have. NIP-29 recommends 3; many clients send none yet."""
    late_publication_limit: Annotated[int, Meta(ge=1)] | None = 3_600
    """How many seconds in the past an event that is sent to a group may lie. `none` while groups
    are moved here from another relay."""
    unmanaged: Unmanaged = "accept"
    """What is done with events of a group that this relay does not keep: `accept` them as ordinary
    events, or `refuse` them."""
