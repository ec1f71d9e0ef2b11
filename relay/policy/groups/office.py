"""The office of groups: which rule is asked for which kind, and who may ask at all."""

from typing import Final

from relay.policy.groups import kinds
from relay.policy.groups.lifecycle import create_group, delete_group
from relay.policy.groups.membership import join, leave
from relay.policy.groups.moderation import (
    create_invite,
    delete_event,
    edit_metadata,
    put_user,
    remove_user,
    update_pin_list,
)
from relay.policy.groups.reading import GroupReading
from relay.policy.groups.refusal import Refused
from relay.policy.groups.roles import may
from relay.policy.groups.settings import GroupSettings
from relay.policy.groups.state import Directory, Group
from relay.policy.groups.surroundings import Archive, People, Surroundings
from relay.policy.groups.timeline import demand_references, demand_timely
from relay.policy.groups.writing import demand_not_a_document, demand_writable
from relay.policy.records import KIND_RECORD
from relay.policy.ruling import Ruling
from relay.policy.verdict import Client, Rejection, Verdict
from relay.protocol.event import Event

_KNOWN: Final = frozenset(
    {
        kinds.PUT_USER,
        kinds.REMOVE_USER,
        kinds.EDIT_METADATA,
        kinds.DELETE_EVENT,
        kinds.CREATE_GROUP,
        kinds.DELETE_GROUP,
        kinds.CREATE_INVITE,
        kinds.UPDATE_PIN_LIST,
        kinds.JOIN_REQUEST,
        kinds.LEAVE_REQUEST,
    }
)
_OWN_KINDS: Final = kinds.DOCUMENTS | {KIND_RECORD}
_OF_GROUPS: Final = kinds.REQUESTS | kinds.DOCUMENTS
_PASSED_OVER: Final = frozenset[int]()


class Groups:
    """The `Office` of NIP-29: the groups of this relay.

    `own_key` is the relay's own public key. Groups belong to it: with another key there are none.
    """

    def __init__(
        self, own_key: str, settings: GroupSettings, people: People, archive: Archive
    ) -> None:
        self._directory = Directory(own_key)
        self._around = Surroundings(self._directory, settings, people, archive)
        self._reading = GroupReading(self._around)
        self._refuses_unmanaged = settings.unmanaged == "refuse"

    @property
    def directory(self) -> Directory:
        """The groups as they are now."""
        return self._directory

    @property
    def reading(self) -> GroupReading:
        """The rule about who may read what."""
        return self._reading

    @property
    def kinds(self) -> frozenset[int]:
        """What is asked of the relay: moderation events, join and leave requests."""
        return kinds.REQUESTS

    @property
    def own_kinds(self) -> frozenset[int]:
        """The documents about groups, and the relay's private records."""
        return _OWN_KINDS

    @property
    def noted_kinds(self) -> frozenset[int]:
        """None: what peers have said changes a group only by the documents that came of it."""
        return _PASSED_OVER

    def note(self, event: Event) -> None:
        """Take one of the relay's own documents into the view; see `Office.note`."""
        self._directory.note(event)

    @property
    def checked_kinds(self) -> None:
        """All."""
        return None

    def check(self, event: Event, _client: Client, now: int) -> Verdict:
        """Judge what is written to groups; see `Office.check`."""
        # every event comes by here: 0.1 µs for those that are in no group
        if event.kind in _OF_GROUPS:
            return self._judged(event, now)
        if self._directory.groups or self._refuses_unmanaged:
            for tag in event.tags:
                if tag[0] == "h":
                    return self._judged(event, now)
        return None

    def rule(self, event: Event, _client: Client, now: int) -> Ruling:
        """Decide on what is asked; see `Office.rule`."""
        try:
            return self._decide(event, now)
        except Refused as refused:
            return Ruling(accepted=False, reason=str(refused))

    def _judged(self, event: Event, now: int) -> Verdict:
        try:
            demand_not_a_document(self._around, event)
            demand_writable(self._around, event, now)
        except Refused as refused:
            return Rejection(str(refused))
        return None

    def _decide(self, event: Event, now: int) -> Ruling:
        around, kind = self._around, event.kind
        named = [tag[1] for tag in event.tags if tag[0] == "h" and len(tag) > 1]
        if len(named) != 1:
            raise Refused("invalid: one h tag must name the group")
        if kind not in _KNOWN:
            raise Refused(f"unsupported: this relay knows no moderation events of kind {kind}")
        demand_timely(around, event, now)
        demand_references(around, event)
        if kind == kinds.CREATE_GROUP:
            return create_group(around, named[0], event)
        group = around.existing(named[0])
        if kind == kinds.JOIN_REQUEST:
            return join(around, group, event, now)
        if kind == kinds.LEAVE_REQUEST:
            return leave(group, event)
        self._demand_capability(group, event)
        demand_references(around, event, at_least=around.settings.min_references)
        return self._moderate(group, event, now)

    def _demand_capability(self, group: Group, event: Event) -> None:
        if self._around.is_relay_admin(event.pubkey):
            return
        roles = group.admins.get(event.pubkey, ())
        if not may(roles, event.kind):
            why = (
                f"the role {roles[0]} does not allow"
                if roles
                else "you have no role in this group that allows"
            )
            raise Refused(f"restricted: {why} events of kind {event.kind}")

    def _moderate(self, group: Group, event: Event, now: int) -> Ruling:
        around = self._around
        match event.kind:
            case kinds.PUT_USER:
                return put_user(around, group, event)
            case kinds.REMOVE_USER:
                return remove_user(around, group, event)
            case kinds.EDIT_METADATA:
                return edit_metadata(around, group, event)
            case kinds.DELETE_EVENT:
                return delete_event(around, group, event)
            case kinds.DELETE_GROUP:
                return delete_group(around, group)
            case kinds.CREATE_INVITE:
                return create_invite(around, group, event, now)
            case _:
                return update_pin_list(around, group, event)
