"""Joining and leaving, by those who do: 9021 and 9022.

There is no list of requests that wait for an admin: a request is accepted at once or refused for
good, so the reason always says what would help.
"""

from relay.policy.groups import kinds
from relay.policy.groups.documents import admins_document, members_document
from relay.policy.groups.refusal import Refused
from relay.policy.groups.state import Group
from relay.policy.groups.surroundings import Surroundings
from relay.policy.ruling import Draft, Ruling
from relay.protocol.event import Event, first_value


def join(around: Surroundings, group: Group, event: Event, now: int) -> Ruling:
    """Rule on a join request: the author is added, or the request is refused.

    Raises `Refused`.
    """
    if group.has_member(event.pubkey):
        raise Refused("duplicate: you are a member of this group already")
    if group.metadata.closed:
        code = first_value(event, "code")
        if code is None:
            raise Refused(
                "restricted: this group is closed; requests without an invite code are not"
                " considered"
            )
        invite = group.invites.get(code)
        if invite is None or not invite.is_open(now):
            raise Refused("restricted: this invite code is not valid; ask for another one")
    if len(group.members) >= around.settings.max_members:
        raise Refused("restricted: this group is full; try again when somebody has left")
    return Ruling(
        accepted=True,
        drafts=(
            Draft(kinds.PUT_USER, (("h", group.id), ("p", event.pubkey))),
            members_document(group.id, [*group.members, event.pubkey]),
        ),
    )


def leave(group: Group, event: Event) -> Ruling:
    """Rule on a leave request: nobody is kept, not even the last admin.

    A group without admins is still ruled by those of the relay. Raises `Refused`.
    """
    leaver = event.pubkey
    if not group.has_member(leaver):
        raise Refused("invalid: you are not a member of this group")
    drafts = [
        Draft(kinds.REMOVE_USER, (("h", group.id), ("p", leaver))),
        members_document(group.id, [member for member in group.members if member != leaver]),
    ]
    if leaver in group.admins:
        others = {pubkey: roles for pubkey, roles in group.admins.items() if pubkey != leaver}
        drafts.append(admins_document(group.id, others))
    return Ruling(accepted=True, drafts=tuple(drafts))
