"""What admins ask for in a group that is there: the moderation events, kind by kind.

Every rule either refuses or says which documents change; the event itself is kept, so that the
canonical sequence of NIP-29 is there to be read. Whether its author may send the kind at all has
been decided before (`office`).
"""

from collections.abc import Mapping
from typing import Final

from relay.policy.groups import kinds
from relay.policy.groups.documents import (
    Invite,
    admins_document,
    is_address,
    members_document,
    metadata_document,
    pins_document,
    read_pins,
    record_document,
)
from relay.policy.groups.metadata import demand_valid, read_metadata
from relay.policy.groups.refusal import Refused
from relay.policy.groups.roles import Role, known_roles
from relay.policy.groups.state import Group
from relay.policy.groups.subgroups import demand_all_children, demand_parent, move
from relay.policy.groups.surroundings import Surroundings
from relay.policy.ruling import Draft, Ruling
from relay.protocol.event import Event, expiration, is_hex64

_LONGEST_CODE: Final = 128
_MOST_DELETED: Final = 100
"""Events that one 9005 may name: each is looked up, in some 20 µs."""


def put_user(around: Surroundings, group: Group, event: Event) -> Ruling:
    """Add users, or give users other roles (9000). Raises `Refused`."""
    members, admins = dict(group.members), dict(group.admins)
    for pubkey, names in _named_users(event).items():
        members.setdefault(pubkey)
        roles = known_roles(names)
        if roles:
            admins[pubkey] = roles
        else:
            admins.pop(pubkey, None)
    most = around.settings.max_members
    if len(members) > max(most, len(group.members)):
        raise Refused(f"restricted: a group has at most {most} members")
    _demand_an_admin(around, group, admins, event)
    return _ruling(_changed_lists(group, members, admins))


def remove_user(around: Surroundings, group: Group, event: Event) -> Ruling:
    """Remove users (9001). Raises `Refused`."""
    members, admins = dict(group.members), dict(group.admins)
    with_roles = False
    for pubkey in _named_users(event):
        if not group.has_member(pubkey):
            raise Refused(f"invalid: {pubkey} is not a member of this group")
        members.pop(pubkey, None)
        with_roles = admins.pop(pubkey, None) is not None or with_roles
    if with_roles and not is_group_admin(around, group, event.pubkey):
        raise Refused("restricted: only an admin can remove somebody who has a role")
    _demand_an_admin(around, group, admins, event)
    return _ruling(_changed_lists(group, members, admins))


def edit_metadata(around: Surroundings, group: Group, event: Event) -> Ruling:
    """Replace the metadata (9002), the place in the tree included. Raises `Refused`."""
    demand_valid(event.tags)
    wanted = read_metadata(event.tags)
    demand_all_children(group.metadata, wanted)
    demand_parent(around, group.id, wanted, event.pubkey)
    return _ruling(
        [
            metadata_document(group.id, wanted),
            *move(around.directory, group.id, group.metadata.parent, wanted.parent),
        ]
    )


def delete_event(around: Surroundings, group: Group, event: Event) -> Ruling:
    """Remove events from the group for good (9005). Raises `Refused`."""
    ids = list(dict.fromkeys(_values(event, "e")))
    if not ids or not all(map(is_hex64, ids)):
        raise Refused("invalid: e tags must name the events, by ids of 64 hexadecimal digits")
    if len(ids) > _MOST_DELETED:
        raise Refused(f"invalid: at most {_MOST_DELETED} events can be deleted at once")
    for event_id in ids:
        found = around.archive.find(event_id)
        if found is None or group.id not in _values(found, "h"):
            raise Refused(f"invalid: there is no event {event_id} in this group")
        if found.kind in kinds.MODERATION and found.kind != kinds.CREATE_INVITE:
            raise Refused("invalid: moderation events stay: what the group is rests on them")
    drafts: list[Draft] = []
    open_ones = [invite for invite in group.invites.values() if invite.event_id not in ids]
    if len(open_ones) < len(group.invites):
        drafts.append(record_document(group.id, open_ones))
    return _ruling(drafts, bury=tuple(ids))


def create_invite(around: Surroundings, group: Group, event: Event, now: int) -> Ruling:
    """Open an invite code (9009): valid for everybody, until its event is deleted or has expired.

    Raises `Refused`.
    """
    codes = _values(event, "code")
    if len(codes) != 1 or not 0 < len(codes[0]) <= _LONGEST_CODE:
        raise Refused(f"invalid: one code tag must hold 1 to {_LONGEST_CODE} characters")
    [code] = codes
    open_ones = [invite for invite in group.invites.values() if invite.is_open(now)]
    if any(invite.code == code for invite in open_ones):
        raise Refused("duplicate: this code is open already")
    most = around.settings.max_invites
    if len(open_ones) >= most:
        raise Refused(f"restricted: a group has at most {most} invite codes; delete one first")
    open_ones.append(Invite(code, event.id, expiration(event)))
    return _ruling([record_document(group.id, open_ones)])


def update_pin_list(around: Surroundings, group: Group, event: Event) -> Ruling:
    """Replace the list of pinned events (9010). Raises `Refused`."""
    pins = read_pins(event)
    most = around.settings.max_pins
    if len(pins) > most:
        raise Refused(f"restricted: at most {most} events can be pinned in a group")
    if len(set(pins)) < len(pins):
        raise Refused("invalid: an event is pinned twice")
    for pin in pins:
        if pin.letter == "e" and not is_hex64(pin.value):
            raise Refused("invalid: an e tag must hold an id of 64 hexadecimal digits")
        if pin.letter == "a" and not is_address(pin.value):
            raise Refused("invalid: an a tag must hold an address: kind:pubkey:d-identifier")
    return _ruling([pins_document(group.id, pins)])


def is_group_admin(around: Surroundings, group: Group, pubkey: str) -> bool:
    """Tell whether `pubkey` is an admin of this group, by its own role or as one of the relay."""
    return Role.ADMIN in group.admins.get(pubkey, ()) or around.is_relay_admin(pubkey)


def _demand_an_admin(
    around: Surroundings, group: Group, admins: Mapping[str, tuple[Role, ...]], event: Event
) -> None:
    """Refuse to take away the last admin by mistake. Who wants to go can leave (9022)."""
    if (
        any(Role.ADMIN in roles for roles in group.admins.values())
        and not any(Role.ADMIN in roles for roles in admins.values())
        and not around.is_relay_admin(event.pubkey)
    ):
        raise Refused("restricted: the group would have no admin; appoint another one first")


def _named_users(event: Event) -> dict[str, tuple[str, ...]]:
    """Return who is named by `p` tags, with the words that stand behind."""
    users = {tag[1]: tag[2:] for tag in event.tags if tag[0] == "p" and len(tag) > 1}
    if not users or not all(map(is_hex64, users)):
        raise Refused("invalid: p tags must name users, by public keys of 64 hexadecimal digits")
    return users


def _values(event: Event, name: str) -> list[str]:
    return [tag[1] for tag in event.tags if tag[0] == name and len(tag) > 1]


def _changed_lists(
    group: Group, members: dict[str, None], admins: dict[str, tuple[Role, ...]]
) -> list[Draft]:
    drafts: list[Draft] = []
    if members != group.members:
        drafts.append(members_document(group.id, members))
    if admins != group.admins:
        drafts.append(admins_document(group.id, admins))
    return drafts


def _ruling(drafts: list[Draft], bury: tuple[str, ...] = ()) -> Ruling:
    return Ruling(accepted=True, drafts=tuple(drafts), bury=bury)
