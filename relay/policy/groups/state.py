"""What is known of the groups: a view of the relay's own events, kept current by `note`.

Each of these events is the whole of what it tells (one address, one document), so `note` replaces
and never adds up. A group is there once its metadata (39000) is. Its record says when it has been
deleted: the other documents are erased then, and this one takes the word.

A document older than the one that was taken already changes nothing: the same event may be noted
twice, and a stretch of the log again.
"""

from typing import Final

from relay.policy.groups import kinds
from relay.policy.groups.documents import (
    Invite,
    Pin,
    group_of,
    read_admins,
    read_invites,
    read_members,
    read_pins,
    says_deleted,
)
from relay.policy.groups.metadata import Metadata, read_metadata
from relay.policy.groups.roles import Role
from relay.policy.records import KIND_RECORD
from relay.protocol.event import Event

_Version = tuple[int, str]
"""Sorts as NIP-01 says: newest first, then the lowest id. See `_version`."""


class Group:
    """One group. To be read by the rules, and changed by `Directory.note` alone."""

    __slots__ = ("admins", "id", "invites", "members", "metadata", "pins", "versions")

    def __init__(self, group_id: str) -> None:
        self.id: Final = group_id
        self.metadata = Metadata()
        self.admins: dict[str, tuple[Role, ...]] = {}
        """Who has roles, as 39001 says."""
        self.members: dict[str, None] = {}
        """In the order in which they came, as 39002 says; admins are among them."""
        self.pins: tuple[Pin, ...] = ()
        self.invites: dict[str, Invite] = {}
        """By code; some may have expired."""
        self.versions: dict[int, _Version] = {}

    def has_member(self, pubkey: str) -> bool:
        """Tell whether `pubkey` is a member. Whoever has a role is one."""
        return pubkey in self.members


class Directory:
    """All groups of the relay, by what the events of its own key say."""

    def __init__(self, own_key: str) -> None:
        self.own_key: Final = own_key
        """The relay's own public key."""
        self.groups: Final[dict[str, Group]] = {}
        """By id. To be read only, as all that is public here."""
        self.private: frozenset[str] = frozenset()
        """The ids of the groups whose events only members read."""
        self.hidden: frozenset[str] = frozenset()
        """The ids of the groups whose documents only members see."""
        self._incomplete: dict[str, Group] = {}

    def get(self, group_id: str) -> Group | None:
        """Return the group with this id, if there is one."""
        return self.groups.get(group_id)

    def note(self, event: Event) -> None:
        """Take one of the relay's own documents into the view; anything else is passed over."""
        if event.pubkey != self.own_key:
            return
        group_id = group_of(event)
        if group_id is not None:
            self._take(group_id, event)

    def _take(self, group_id: str, event: Event) -> None:
        group = self.groups.get(group_id) or self._incomplete.get(group_id) or Group(group_id)
        version = _version(event)
        if version <= group.versions.get(event.kind, (-1, "")):
            return
        group.versions[event.kind] = version
        if event.kind == KIND_RECORD and says_deleted(event):
            self._drop(group_id)
            return
        _read(group, event)
        if kinds.METADATA in group.versions:
            self.groups[group_id] = group
            self._incomplete.pop(group_id, None)
            if event.kind == kinds.METADATA:
                self._classify(group)
        else:
            # its other documents are on their way: they come in the same transaction
            self._incomplete[group_id] = group

    def _drop(self, group_id: str) -> None:
        self.groups.pop(group_id, None)
        self._incomplete.pop(group_id, None)
        if group_id in self.private:
            self.private -= {group_id}
        if group_id in self.hidden:
            self.hidden -= {group_id}

    def _classify(self, group: Group) -> None:
        if group.metadata.private != (group.id in self.private):
            self.private ^= {group.id}
        if group.metadata.hidden != (group.id in self.hidden):
            self.hidden ^= {group.id}


def _read(group: Group, event: Event) -> None:
    match event.kind:
        case kinds.METADATA:
            group.metadata = read_metadata(event.tags)
        case kinds.ADMINS:
            group.admins = read_admins(event)
        case kinds.MEMBERS:
            group.members = read_members(event)
        case kinds.ROLES | kinds.LIVE_PARTICIPANTS:
            pass
        case kinds.PINS:
            group.pins = read_pins(event)
        case _:  # its record
            group.invites = read_invites(event)


def _version(event: Event) -> _Version:
    # the lowest id wins among equals, so its digits count the other way round
    return event.created_at, f"{(1 << 256) - 1 - int(event.id, 16):064x}"
