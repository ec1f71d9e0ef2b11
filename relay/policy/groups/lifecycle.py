"""How groups come and go: 9007 and 9008."""

from collections.abc import Mapping
from typing import Final

from relay.policy.groups.documents import (
    admins_document,
    deletion_document,
    documents_filter,
    members_document,
    metadata_document,
    record_document,
    roles_document,
)
from relay.policy.groups.metadata import Metadata, demand_valid, read_metadata
from relay.policy.groups.refusal import Refused
from relay.policy.groups.roles import Role
from relay.policy.groups.state import Group
from relay.policy.groups.subgroups import (
    demand_all_children,
    demand_parent,
    move,
    release_children,
)
from relay.policy.groups.surroundings import Surroundings
from relay.policy.ruling import Ruling
from relay.protocol.event import Event
from relay.protocol.filters import Filter

_LONGEST_ID: Final = 128
_CREATORS: Final[Mapping[str, str]] = {
    "members": "only members of this relay",
    "admins": "only the relay's admins",
    "nobody": "nobody",
}


def create_group(around: Surroundings, group_id: str, event: Event) -> Ruling:
    """Create a group whose first member and admin is the event's author (9007).

    Metadata may come along, as in an edit. Raises `Refused`.
    """
    settings, author = around.settings, event.pubkey
    if not 0 < len(group_id) <= _LONGEST_ID:
        raise Refused(f"invalid: a group's id has 1 to {_LONGEST_ID} characters")
    if around.directory.get(group_id) is not None:
        raise Refused("duplicate: a group with this id is here already")
    if not _may_create(around, author):
        raise Refused(f"restricted: {_CREATORS[settings.creators]} can create groups here")
    if len(around.directory.groups) >= settings.max_groups:
        raise Refused("restricted: this relay has as many groups as it takes")
    # Deleting a group erases what is under its id. Nobody shall come by that power, or by the name
    # of a group that was deleted, by just asking for it.
    if not around.is_relay_admin(author) and around.archive.has_events_of(group_id):
        raise Refused(
            "restricted: events for a group with this id are stored here already; choose another"
            " id, or ask an admin of this relay"
        )
    demand_valid(event.tags)
    wanted = read_metadata(event.tags)
    demand_all_children(Metadata(), wanted)
    demand_parent(around, group_id, wanted, author)
    return Ruling(
        accepted=True,
        drafts=(
            record_document(group_id, ()),
            metadata_document(group_id, wanted),
            admins_document(group_id, {author: (Role.ADMIN,)}),
            members_document(group_id, [author]),
            roles_document(group_id),
            *move(around.directory, group_id, None, wanted.parent),
        ),
    )


def delete_group(around: Surroundings, group: Group) -> Ruling:
    """Delete the group, its documents and everything that was written to it (9008)."""
    return Ruling(
        accepted=True,
        drafts=(
            deletion_document(group.id),
            *move(around.directory, group.id, group.metadata.parent, None),
            *release_children(around.directory, group),
        ),
        erase=(
            documents_filter(group.id, around.directory.own_key),
            Filter(tags=(("h", frozenset({group.id})),)),
        ),
    )


def _may_create(around: Surroundings, author: str) -> bool:
    match around.settings.creators:
        case "everyone":
            return True
        case "members":
            return around.people.is_member(author) or around.is_relay_admin(author)
        case "admins":
            return around.is_relay_admin(author)
        case "nobody":
            return False
