"""Who may write what to a group, beside what is asked of the relay."""

from typing import Final

from relay.policy.groups import kinds
from relay.policy.groups.refusal import Refused
from relay.policy.groups.state import Group
from relay.policy.groups.surroundings import Surroundings
from relay.policy.groups.timeline import demand_references, demand_timely
from relay.protocol.event import KIND_DELETION, Event
from relay.protocol.filters import quoted

_ONLY_BY_THE_RELAY: Final = "restricted: only this relay itself says what its groups are"


def demand_not_a_document(around: Surroundings, event: Event) -> None:
    """Refuse a group's metadata and lists by anybody but the relay. Raises `Refused`."""
    if event.kind in kinds.DOCUMENTS and event.pubkey != around.directory.own_key:
        raise Refused(_ONLY_BY_THE_RELAY)


def demand_writable(around: Surroundings, event: Event, now: int) -> None:
    """Refuse what may not be written to one of the groups that `event` names.

    Raises `Refused`.
    """
    directory, settings = around.directory, around.settings
    if event.kind in kinds.REQUESTS:
        return  # the ruling decides
    managed = False
    for tag in event.tags:
        if tag[0] != "h" or len(tag) < 2:
            continue
        group = directory.get(tag[1])
        if group is not None:
            managed = True
            _demand_accepted_by(around, group, event)
        elif settings.unmanaged == "refuse":
            raise Refused(f"restricted: there is no group {quoted(tag[1])} on this relay")
    if managed:
        demand_timely(around, event, now)
        demand_references(around, event, at_least=settings.min_references)


def _demand_accepted_by(around: Surroundings, group: Group, event: Event) -> None:
    metadata = group.metadata
    if (
        metadata.restricted
        and not group.has_member(event.pubkey)
        and not around.is_relay_admin(event.pubkey)
    ):
        raise Refused(f"restricted: only members write to the group {quoted(group.id)}")
    supported = metadata.supported_kinds
    # whatever is supported, everybody may take back what they have said
    if supported is not None and event.kind not in supported and event.kind != KIND_DELETION:
        raise Refused(f"restricted: the group {quoted(group.id)} takes no kind {event.kind}")
