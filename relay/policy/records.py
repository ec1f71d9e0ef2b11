"""The relay's private records: what it must remember and shows to administrators only.

A record is an event of NIP-78 that the relay signs with its own key: kind 30078, one for each item
of a list, at the address `trio-relay/<list>/<item>`, its content a JSON value. So it is durable,
replaced atomically, reaches every process by the log, and is found again at the start. What is
taken off a list leaves an empty record behind: in a log nothing can be missing.

    pubkey, event, kind, address   what administrators have allowed and forbidden  (management)
    information                    how they have the relay describe itself         (management)
    audit                          what they did, one record for each call         (management)
    member, role, claim            who belongs to the relay, how, by which code    (membership)
    group                          which invite codes of a group are open          (groups)
"""

from collections.abc import Set as AbstractSet
from typing import Any, Final, NamedTuple

import msgspec

from relay.policy.ruling import Draft
from relay.policy.verdict import Rejection, Verdict
from relay.protocol.event import Event, identifier, kind_digits
from relay.protocol.filters import Filter

KIND_RECORD: Final = 30078

_PREFIX: Final = "trio-relay"
_DIGITS: Final = b"%d" % KIND_RECORD
_AUTH_FIRST: Final = Rejection("auth-required: the relay's records are for its administrators")
_RESTRICTED: Final = Rejection("restricted: the relay's records are for its administrators")


class PrivateRecord(NamedTuple):
    """One item of one list, as it is now."""

    list: str
    item: str
    value: dict[str, Any] | None
    """`None`: it was taken off the list."""
    at: int
    """When it came to be so, in Unix seconds."""


def record_draft(
    list_name: str, item: str, value: dict[str, Any] | None, *, expires: int | None = None
) -> Draft:
    """Return the event that puts an item on a list, or with `None` takes it off.

    After `expires`, in Unix seconds, it is forgotten (NIP-40).
    """
    tags: tuple[tuple[str, ...], ...] = (("d", f"{_PREFIX}/{list_name}/{item}"),)
    if expires is not None:
        tags += (("expiration", str(expires)),)
    content = "" if value is None else msgspec.json.encode(value, order="sorted").decode()
    return Draft(KIND_RECORD, tags, content)


def read_record(event: Event) -> PrivateRecord | None:
    """Return what a record of the relay's own says; `None` for any other event."""
    if event.kind != KIND_RECORD:
        return None
    prefix, _, rest = identifier(event).partition("/")
    list_name, slash, item = rest.partition("/")
    if prefix != _PREFIX or not slash:
        return None
    try:
        value = msgspec.json.decode(event.content, type=dict[str, Any]) if event.content else None
    except msgspec.MsgspecError:
        return None  # not of this version's making
    return PrivateRecord(list_name, item, value, event.created_at)


class RecordsAreHidden:
    """The reading rule for the records: they are shown to administrators only."""

    def __init__(self, own_key: str, admins: AbstractSet[str]) -> None:
        self._own_key = own_key
        self._admins = admins
        self._kinds = frozenset([KIND_RECORD])
        self._filters = (Filter(kinds=self._kinds, authors=frozenset([own_key])),)

    @property
    def kinds(self) -> frozenset[int]:
        """That of records."""
        return self._kinds

    @property
    def filters(self) -> tuple[Filter, ...]:
        """All records."""
        return self._filters

    def concerns(self, event: Event) -> bool:
        """Tell whether `event` is a record."""
        return event.kind == KIND_RECORD and event.pubkey == self._own_key

    def may_concern(self, raw: bytes) -> bool:
        """Tell whether canonical JSON may be a record's."""
        return kind_digits(raw) == _DIGITS

    def allows(self, _event: Event, authenticated: AbstractSet[str]) -> bool:
        """Tell whether an administrator asks."""
        return not self._admins.isdisjoint(authenticated)

    def exceptions(self, authenticated: AbstractSet[str]) -> tuple[Filter, ...]:
        """Return filters for what the reader may see: all records, or none."""
        return () if self._admins.isdisjoint(authenticated) else self._filters

    def judge(self, filter_: Filter, authenticated: AbstractSet[str]) -> Verdict:
        """Refuse a filter that asks for nothing but records."""
        if filter_.kinds != self._kinds or filter_.authors != self._filters[0].authors:
            return None
        if not self._admins.isdisjoint(authenticated):
            return None
        return _RESTRICTED if authenticated else _AUTH_FIRST
