"""Who may read what of groups, as one `ReadingRule`.

    private group   every event whose `h` tag names it: members only
    hidden group    its documents (39000 to 39005): members only
    invite codes    9009: the group's admins; a request that names a code: its author as well

The relay's admins see everything. Who was added to or removed from a private group sees the 9000
and 9001 that name them, member or not: by these a client knows where its user stands.

Nothing is hidden by the `h` tag of a group that this relay does not keep.
"""

from collections.abc import Set as AbstractSet
from typing import Final

from relay.policy.groups import kinds
from relay.policy.groups.moderation import is_group_admin
from relay.policy.groups.state import Directory, Group
from relay.policy.groups.surroundings import Surroundings
from relay.policy.verdict import Rejection, Verdict
from relay.protocol.event import Event, first_value, identifier, kind_digits
from relay.protocol.filters import Filter

_WITH_CODES: Final = frozenset({kinds.CREATE_INVITE, kinds.JOIN_REQUEST})
_ABOUT_USERS: Final = frozenset({kinds.PUT_USER, kinds.REMOVE_USER})
_OF_SOME_KINDS: Final = kinds.DOCUMENTS | _WITH_CODES
_KIND_DIGITS: Final = frozenset([b"%d" % kind for kind in _OF_SOME_KINDS])
_H_TAG: Final = b'["h","'

_AUTH_FIRST: Final = Rejection("auth-required: this is shown to the members of the group only")
_MEMBERS_ONLY: Final = Rejection("restricted: this is shown to the members of the group only")
_ADMINS_ONLY: Final = Rejection("auth-required: invite codes are shown to the group's admins only")


class GroupReading:
    """The `ReadingRule` of groups. Without groups it concerns nothing."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._directory: Directory = around.directory
        self._seen: tuple[frozenset[str], frozenset[str], bool] | None = None
        self._filters: tuple[Filter, ...] = ()

    @property
    def kinds(self) -> None:
        """Any: an event of any kind may be a group's."""
        return None

    @property
    def filters(self) -> tuple[Filter, ...]:
        """What matches everything that may be hidden from anybody now."""
        directory = self._directory
        seen = (directory.private, directory.hidden, bool(directory.groups))
        if self._seen is None or any(a is not b for a, b in zip(seen, self._seen, strict=True)):
            self._seen = seen
            self._filters = self._made_filters()
        return self._filters

    def _made_filters(self) -> tuple[Filter, ...]:
        directory = self._directory
        own_key = frozenset({directory.own_key})
        filters: list[Filter] = []
        if directory.groups:
            filters.append(Filter(kinds=_WITH_CODES))
        if directory.private:
            filters.append(Filter(tags=(("h", directory.private),)))
        if directory.hidden:
            hidden = (("d", directory.hidden),)
            filters.append(Filter(authors=own_key, kinds=kinds.DOCUMENTS, tags=hidden))
        return tuple(filters)

    def concerns(self, event: Event) -> bool:
        """Tell whether `event` may be hidden from anybody."""
        if event.kind in _OF_SOME_KINDS and self._is_of_its_kind(event):
            return True
        private = self._directory.private
        if private:
            for tag in event.tags:
                if tag[0] == "h" and len(tag) > 1 and tag[1] in private:
                    return True
        return False

    def _is_of_its_kind(self, event: Event) -> bool:
        """Tell whether an event of those kinds that matter by themselves may be hidden."""
        directory = self._directory
        if event.kind in _WITH_CODES:
            return first_value(event, "code") is not None and bool(self._groups(event))
        return event.pubkey == directory.own_key and identifier(event) in directory.hidden

    def may_concern(self, raw: bytes) -> bool:
        """Tell the same of canonical JSON; true when it may be so."""
        directory = self._directory
        if not directory.groups:
            return False
        return (bool(directory.private) and _H_TAG in raw) or kind_digits(raw) in _KIND_DIGITS

    def allows(self, event: Event, authenticated: AbstractSet[str]) -> bool:
        """Tell whether who has authenticated so may see `event`."""
        around = self._around
        if not authenticated:
            return False
        if any(around.is_relay_admin(pubkey) for pubkey in authenticated):
            return True
        if event.kind in kinds.DOCUMENTS:
            group = self._directory.get(identifier(event))
            return group is None or self._admits(group, authenticated)
        groups = self._groups(event)
        if event.kind in _WITH_CODES and first_value(event, "code") is not None:
            if event.kind == kinds.JOIN_REQUEST and event.pubkey in authenticated:
                return True
            return all(
                any(is_group_admin(around, group, pubkey) for pubkey in authenticated)
                for group in groups
            )
        if event.kind in _ABOUT_USERS and _names_one_of(event, authenticated):
            return True
        return all(self._admits(group, authenticated) for group in groups if group.metadata.private)

    def exceptions(self, _authenticated: AbstractSet[str]) -> None:
        """Tell nothing: what a member may see takes a look at it."""
        return

    def judge(self, filter_: Filter, authenticated: AbstractSet[str]) -> Verdict:
        """Refuse a filter that asks only for what the reader may not see.

        Whether a hidden group is there is not said to those who have authenticated: to them it is
        as if it were not. Others are told to, or its members would not know why nothing comes.
        """
        directory = self._directory
        if not directory.groups or any(map(self._around.is_relay_admin, authenticated)):
            return None
        if filter_.kinds is not None and not authenticated:
            if filter_.kinds == {kinds.CREATE_INVITE}:
                return _ADMINS_ONLY
            if filter_.kinds <= kinds.DOCUMENTS and self._asks_only(
                filter_, "d", directory.hidden, authenticated
            ):
                return _AUTH_FIRST
        if not self._asks_only(filter_, "h", directory.private, authenticated):
            return None
        if not authenticated:
            return _AUTH_FIRST
        if filter_.kinds is not None and filter_.kinds & _ABOUT_USERS:
            return None
        return _MEMBERS_ONLY

    def _asks_only(
        self,
        filter_: Filter,
        letter: str,
        closed: frozenset[str],
        authenticated: AbstractSet[str],
    ) -> bool:
        """Tell whether all groups that are asked for are such, and admit none of the readers."""
        for name, values in filter_.tags:
            if name == letter and values <= closed:
                groups = [group for value in values if (group := self._directory.get(value))]
                return not any(self._admits(group, authenticated) for group in groups)
        return False

    def _groups(self, event: Event) -> list[Group]:
        """Return the groups of this relay that the event's `h` tags name."""
        named = [tag[1] for tag in event.tags if tag[0] == "h" and len(tag) > 1]
        return [group for name in named if (group := self._directory.get(name)) is not None]

    def _admits(self, group: Group, authenticated: AbstractSet[str]) -> bool:
        return any(map(group.has_member, authenticated))


def _names_one_of(event: Event, pubkeys: AbstractSet[str]) -> bool:
    return any(tag[0] == "p" and len(tag) > 1 and tag[1] in pubkeys for tag in event.tags)
