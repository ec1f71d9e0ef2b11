"""The relay's own events about a group: written as drafts, read back as values.

    39000  metadata          39001  who has which roles      39002  members
    39003  the roles         39005  pinned events
    30078  the group's record (`relay.policy.records`), which only the relay's admins are shown: the
           invite codes that are open; it is taken off the list when the group is deleted

What is written here is read here, and nothing else keeps a group's state.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from relay.policy.groups import kinds
from relay.policy.groups.metadata import Metadata
from relay.policy.groups.roles import DESCRIPTIONS, Role, known_roles
from relay.policy.records import read_record, record_draft
from relay.policy.ruling import Draft
from relay.protocol.event import Event, identifier
from relay.protocol.filters import Filter

_LIST: Final = "group"
"""Match an id or a public key."""
is_address: Final = re.compile(
    r"(0|[1-9][0-9]{0,4}):[0-9a-f]{64}:.{0,512}", flags=re.DOTALL
).fullmatch
"""Match an address as `a` tags spell it, with an identifier of bearable length."""


class Invite(NamedTuple):
    """An open invite: whoever names its code may join."""

    code: str
    event_id: str
    """The 9009 that created it."""
    expires: int | None
    """When that event expires (NIP-40), in Unix seconds."""

    def is_open(self, now: int) -> bool:
        """Tell whether it has not expired."""
        return self.expires is None or self.expires > now


class Pin(NamedTuple):
    """A pinned event: ("e", its id) or ("a", its address)."""

    letter: str
    value: str


def metadata_document(group_id: str, metadata: Metadata) -> Draft:
    """Return the 39000."""
    return Draft(kinds.METADATA, (("d", group_id), *metadata.tags()))


def admins_document(group_id: str, admins: Mapping[str, Iterable[Role]]) -> Draft:
    """Return the 39001: everybody who has a role."""
    people = tuple([("p", pubkey, *roles) for pubkey, roles in admins.items()])
    return Draft(kinds.ADMINS, (("d", group_id), *people))


def members_document(group_id: str, members: Iterable[str]) -> Draft:
    """Return the 39002."""
    return Draft(kinds.MEMBERS, (("d", group_id), *[("p", pubkey) for pubkey in members]))


def roles_document(group_id: str) -> Draft:
    """Return the 39003."""
    roles = tuple([("role", str(role), DESCRIPTIONS[role]) for role in Role])
    return Draft(kinds.ROLES, (("d", group_id), *roles))


def pins_document(group_id: str, pins: Iterable[Pin]) -> Draft:
    """Return the 39005."""
    return Draft(kinds.PINS, (("d", group_id), *[tuple(pin) for pin in pins]))


def record_document(group_id: str, invites: Iterable[Invite]) -> Draft:
    """Return the record of a group that is there."""
    return record_draft(_LIST, group_id, {"invites": [tuple(invite) for invite in invites]})


def deletion_document(group_id: str) -> Draft:
    """Return the record of a group that has been deleted."""
    return record_draft(_LIST, group_id, None)


def documents_filter(group_id: str, own_key: str) -> Filter:
    """Return what matches all public documents of a group."""
    return Filter(
        authors=frozenset({own_key}),
        kinds=kinds.DOCUMENTS,
        tags=(("d", frozenset({group_id})),),
    )


def group_of(event: Event) -> str | None:
    """Return which group one of the relay's own events is about; `None` if about none."""
    if event.kind in kinds.DOCUMENTS:
        return identifier(event)
    record = read_record(event)
    return record.item if record is not None and record.list == _LIST else None


def says_deleted(event: Event) -> bool:
    """Tell whether this is the record of a group that has been deleted."""
    record = read_record(event)
    return record is not None and record.value is None


def read_admins(event: Event) -> dict[str, tuple[Role, ...]]:
    """Read a 39001."""
    return {tag[1]: known_roles(tag[2:]) for tag in event.tags if tag[0] == "p" and len(tag) > 1}


def read_members(event: Event) -> dict[str, None]:
    """Read a 39002."""
    return {tag[1]: None for tag in event.tags if tag[0] == "p" and len(tag) > 1}


def read_pins(event: Event) -> tuple[Pin, ...]:
    """Read a 39005, or what a 9010 asks for."""
    return tuple(
        [Pin(tag[0], tag[1]) for tag in event.tags if tag[0] in ("e", "a") and len(tag) > 1]
    )


def read_invites(event: Event) -> dict[str, Invite]:
    """Read the invites of a record."""
    record = read_record(event)
    if record is None or record.value is None:
        return {}
    return {invite[0]: Invite(*invite) for invite in record.value.get("invites", ())}
