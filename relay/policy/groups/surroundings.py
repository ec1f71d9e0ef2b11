"""What the rules know beside the event: the groups, the settings, the relay's people, its store."""

from typing import NamedTuple, Protocol

from relay.policy.groups.refusal import Refused
from relay.policy.groups.settings import GroupSettings
from relay.policy.groups.state import Directory, Group
from relay.protocol.event import Event
from relay.protocol.filters import quoted


class People(Protocol):
    """Who is who on this relay, whatever they are in a group."""

    def is_admin(self, pubkey: str) -> bool:
        """Tell whether `pubkey` is the operator's, or one of the relay's admins."""
        ...

    def is_member(self, pubkey: str) -> bool:
        """Tell whether `pubkey` is a member of the relay."""
        ...


class Archive(Protocol):
    """What is stored, for short questions: each is answered at once, in some microseconds."""

    def find(self, event_id: str) -> Event | None:
        """Return the stored event with this id."""
        ...

    def holds_id(self, prefix: str) -> bool:
        """Tell whether an event is stored whose id begins with these 8 digits."""
        ...

    def has_events_of(self, group_id: str) -> bool:
        """Tell whether any event is stored whose `h` tag names this group."""
        ...


class Surroundings(NamedTuple):
    """All of it."""

    directory: Directory
    settings: GroupSettings
    people: People
    archive: Archive

    def is_relay_admin(self, pubkey: str) -> bool:
        """Tell whether `pubkey` is an admin of every group: the relay's own key is, too."""
        return pubkey == self.directory.own_key or self.people.is_admin(pubkey)

    def existing(self, group_id: str) -> Group:
        """Return the group with this id. Raises `Refused` when there is none."""
        group = self.directory.get(group_id)
        if group is None:
            raise Refused(f"invalid: there is no group {quoted(group_id)} on this relay")
        return group
