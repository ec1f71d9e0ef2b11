"""What administrators have decided: who and what is forbidden or allowed, and the relay's name.

The office of NIP-86. Its state are private records (`records`), one for each pubkey, event, kind
and address, which say whether that is allowed or forbidden: so of two decisions the later holds.
How decisions are made is the business of `management_methods`; here they are kept and applied.

    forbidden pubkey   its events are refused; what is stored of it was removed when it was banned.
                       It may read and authenticate as before.
    forbidden event    refused, by whomever it is sent; it was removed, too
    allowed kinds      while there are any, events of all other kinds are refused
    forbidden kind     refused
    allowed pubkey     may write where not everybody may: with `whitelist`, or among members
    address            no connection from there: see `relay.session.server`

Who may write is asked of the author, and of those who have authenticated on the connection: a
member may publish a gift wrap, whose author is nobody. Requests to vanish (NIP-62), to which
everybody has a right, are taken from everybody; requests for deletion (NIP-09), and to join and
to leave (NIP-43), whatever kinds are allowed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal

import msgspec

from relay.policy.blocked_addresses import BlockedAddresses
from relay.policy.membership import KIND_JOIN, KIND_LEAVE, Membership
from relay.policy.records import KIND_RECORD, PrivateRecord, read_record
from relay.policy.ruling import Ruling
from relay.policy.verdict import Client, Rejection, Verdict
from relay.protocol.event import KIND_DELETION, KIND_VANISH, Event
from relay.protocol.filters import Filter

KIND_REPORT: Final = 1984
ALLOWED: Final = "allowed"
FORBIDDEN: Final = "forbidden"

MOST_REPORTS: Final = 500
"""So many of the newest reports are looked at for what needs moderation."""
_LONGEST_REASON: Final = 200
_MOST_REPORTED: Final = 16
"""Events that one report may name."""

_ALWAYS_ALLOWED: Final = frozenset([KIND_DELETION, KIND_VANISH, KIND_JOIN, KIND_LEAVE])
_REQUESTS: Final = frozenset([KIND_JOIN, KIND_LEAVE])
_EVENT: Final = Rejection("blocked: an administrator has banned this event")
_AUTH_FIRST: Final = Rejection("auth-required: only those whom this relay knows may write here")
_RESTRICTED: Final = Rejection("restricted: only those whom this relay knows may write here")

Reporters = Literal["members", "everyone", "nobody"]


class ManagementRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decides once and for all."""

    admins: frozenset[str] = frozenset()
    whitelist: bool = False
    """Whether only those may write who were allowed to."""
    reports: Reporters = "members"
    """Whose reports are looked at."""


class Management:
    """The office. `own_key` is the relay's, `membership` knows its members.

    `on_change` is told of each record that has changed the view; the composition root sets it.
    """

    def __init__(self, rules: ManagementRules, own_key: str, membership: Membership) -> None:
        self.rules = rules
        self.own_key = own_key
        self.membership = membership
        self.on_change: Callable[[PrivateRecord], None] = _ignore
        self.allowed_pubkeys: dict[str, str] = {}
        self.banned_pubkeys: dict[str, str] = {}
        self.allowed_events: dict[str, str] = {}
        self.banned_events: dict[str, str] = {}
        self.allowed_kinds: set[int] = set()
        self.disallowed_kinds: set[int] = set()
        self.addresses = BlockedAddresses()
        self.description: dict[str, str] = {}
        """How the relay is to be described: `name`, `description` and `icon`, if changed."""
        self._recent_calls: dict[str, int] = {}
        self.restricts_authors = rules.whitelist or membership.restricts_writing
        """Whether not everybody may write."""
        self._unrestricted = not self.restricts_authors

    # --- The office

    @property
    def kinds(self) -> frozenset[int]:
        """None: it is asked by HTTP."""
        return frozenset()

    @property
    def own_kinds(self) -> frozenset[int]:
        """The records."""
        return frozenset([KIND_RECORD])

    @property
    def noted_kinds(self) -> frozenset[int]:
        """None."""
        return frozenset()

    def rule(self, event: Event, client: Client, now: int) -> Ruling:  # noqa: ARG002
        """Refuse: no event is for this office."""
        return Ruling(accepted=False, reason=f"invalid: kind {event.kind} is not ruled on")

    def note(self, event: Event) -> None:
        """Take a record into the view."""
        record = read_record(event)
        if record is None:
            return
        noted = True
        if record.list == "pubkey":
            _mark(record, self.allowed_pubkeys, self.banned_pubkeys)
        elif record.list == "event":
            _mark(record, self.allowed_events, self.banned_events)
        elif record.list == "kind":
            self._note_kind(record)
        elif record.list == "address":
            self.addresses.unblock(record.item)
            if record.value is not None:
                self.addresses.block(record.item, _reason(record))
        elif record.list == "information":
            self.description.pop(record.item, None)
            if record.value is not None:
                self.description[record.item] = str(record.value.get("value", ""))
        elif record.list == "audit":
            self._note_call(record)
        else:
            noted = record.list == "member"
        if noted:
            self._unrestricted = not (
                self.restricts_authors
                or self.banned_pubkeys
                or self.banned_events
                or self.allowed_kinds
                or self.disallowed_kinds
            )
            self.on_change(record)

    @property
    def checked_kinds(self) -> None:
        """All."""
        return None

    def check(self, event: Event, client: Client, now: int) -> Verdict:  # noqa: ARG002
        """Refuse what was forbidden, or by whom."""
        if self._unrestricted:
            return None
        kind, pubkey = event.kind, event.pubkey
        if pubkey in self.banned_pubkeys:
            return _banned(self.banned_pubkeys[pubkey])
        if event.id in self.banned_events:
            return _EVENT
        if (
            kind in self.disallowed_kinds or (self.allowed_kinds and kind not in self.allowed_kinds)
        ) and kind not in _ALWAYS_ALLOWED:
            return Rejection(f"blocked: events of kind {kind} are not accepted here")
        if not self.restricts_authors or kind in _REQUESTS or self.may_write(pubkey):
            return None
        authenticated = client.authenticated
        if any(map(self.may_write, authenticated)):
            return None
        return _RESTRICTED if authenticated else _AUTH_FIRST

    # --- What is known

    @property
    def restricts_writing(self) -> bool:
        """Whether not everybody may write, or not everything (NIP-11 `restricted_writes`)."""
        return self.restricts_authors or bool(self.allowed_kinds)

    def may_write(self, pubkey: str) -> bool:
        """Tell whether somebody may write where not everybody may."""
        return (
            pubkey in self.allowed_pubkeys
            or pubkey in self.rules.admins
            or (
                self.membership.rules.enabled
                and self.membership.is_member(pubkey)
                and pubkey not in self.banned_pubkeys
            )
        )

    def is_blocked(self, address: str) -> bool:
        """Tell whether there may be no connection from an address."""
        return self.addresses.covers(address)

    def was_called(self, call_id: str) -> bool:
        """Tell whether a change was made by this very call, lately, in whatever process."""
        return call_id in self._recent_calls

    @property
    def writers(self) -> frozenset[str]:
        """All who are known to the relay: administrators, members, and who was allowed."""
        known = self.rules.admins.union(self.allowed_pubkeys)
        if self.membership.rules.enabled:
            known = known.union([pubkey for pubkey, _ in self.membership.members])
        return known.difference(self.banned_pubkeys)

    def report_filter(self) -> Filter | None:
        """Return what finds the reports that count (NIP-56); `None` where none do."""
        kinds = frozenset([KIND_REPORT])
        if self.rules.reports == "everyone":
            return Filter(kinds=kinds, limit=MOST_REPORTS)
        if self.rules.reports == "nobody" or not self.writers:
            return None
        return Filter(kinds=kinds, authors=self.writers, limit=MOST_REPORTS)

    def needing_moderation(self, reports: Iterable[Event]) -> dict[str, str]:
        """Return the events that were reported and not decided on, and why, in order of reports.

        Whether they are still stored is for the caller to see.
        """
        found: dict[str, str] = {}
        for report in reports:
            for event_id, kind in _reported(report):
                if event_id not in self.allowed_events and event_id not in self.banned_events:
                    reason = f"{kind}: {report.content}" if report.content else kind
                    found.setdefault(event_id, reason[:_LONGEST_REASON])
        return found

    # --- Within

    def _note_kind(self, record: PrivateRecord) -> None:
        if not record.item.isdigit():
            return
        kind = int(record.item)
        self.allowed_kinds.discard(kind)
        self.disallowed_kinds.discard(kind)
        if record.value is not None:
            marked = self.allowed_kinds if _state(record) == ALLOWED else self.disallowed_kinds
            marked.add(kind)

    def _note_call(self, record: PrivateRecord) -> None:
        """Remember a call for as long as its authorization could be used again."""
        recent = self._recent_calls
        while recent:
            oldest = next(iter(recent))
            if recent[oldest] >= record.at - _CALLS_KEPT:
                break
            del recent[oldest]
        recent[record.item.rpartition("-")[2]] = record.at


_CALLS_KEPT: Final = 300


def _ignore(_record: PrivateRecord) -> None:
    pass


def _mark(record: PrivateRecord, allowed: dict[str, str], forbidden: dict[str, str]) -> None:
    allowed.pop(record.item, None)
    forbidden.pop(record.item, None)
    if record.value is not None:
        (allowed if _state(record) == ALLOWED else forbidden)[record.item] = _reason(record)


def _state(record: PrivateRecord) -> object:
    value: Mapping[str, object] = record.value or {}
    return value.get("state")


def _reason(record: PrivateRecord) -> str:
    value: Mapping[str, object] = record.value or {}
    return str(value.get("reason", ""))


def _banned(reason: str) -> Rejection:
    return Rejection("blocked: you are banned from this relay" + (f": {reason}" if reason else ""))


def _reported(report: Event) -> Iterator[tuple[str, str]]:
    named = [tag for tag in report.tags if len(tag) > 1 and tag[0] == "e"]
    for tag in named[:_MOST_REPORTED]:
        yield tag[1], tag[2] if len(tag) > 2 and tag[2] else "reported"
