"""Members of the relay: who belongs to it, in which roles, and how one joins (NIP-43).

    28934  join, with a claim    → member record, 13534 (the list), 8000 (added)
    28936  leave                 → member record, 13534, 8001 (removed)
    28935  asked for by a REQ    → an invite code, made for that request alone (`offer`)

The records of members and roles are what counts; the events that everybody can read (13534, and
33534 for each role) are made from them in the same transaction. One event cannot hold any number of
members: the list has those who have joined first, as many as fit into a message of the largest
size; all others are members none the less, and their 8000 says so. NIP-43 itself calls the list not
exhaustive.

An invite code is made without being stored: it carries the time of its end and a number, and is
sealed with a secret that is derived from the relay's own key. What is recorded is that it was used,
until it ends by itself: a code admits one pubkey. An operator may set codes that admit anybody.
"""

import hmac
import os
from base64 import b32decode, b32encode
from binascii import Error as Base32Error
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Final, Literal

import msgspec

from relay.policy.records import KIND_RECORD, PrivateRecord, read_record, record_draft
from relay.policy.ruling import Draft, Ruling
from relay.policy.verdict import Client, Rejection, Verdict
from relay.protocol.event import Event, first_value, is_protected
from relay.protocol.filters import Filter

KIND_ADDED: Final = 8000
KIND_REMOVED: Final = 8001
KIND_MEMBERS: Final = 13534
KIND_JOIN: Final = 28934
KIND_INVITE: Final = 28935
KIND_LEAVE: Final = 28936
KIND_ROLE: Final = 33534

_OWN_ANNOUNCEMENTS: Final = frozenset(
    {KIND_ADDED, KIND_REMOVED, KIND_MEMBERS, KIND_INVITE, KIND_ROLE}
)

CLOCK_TOLERANCE: Final = 300
"""How far, in seconds, a request's `created_at` may lie from the relay's clock."""
MOST_MEMBERS: Final = 100_000
MOST_ROLES: Final = 100
MOST_ROLES_OF_A_MEMBER: Final = 20
MOST_MEMBERS_OF_A_DELETED_ROLE: Final = 200
"""A role that more members have cannot be deleted at once: their records change with it."""
_MOST_USED_CODES: Final = 100_000
_MOST_LEFT: Final = 10_000
_CODE_CHARACTERS: Final = 40
_SEAL_BYTES: Final = 10
_NONCE_BYTES: Final = 10

Who = Literal["admins", "members", "everyone"]

_LATE: Final = Ruling(
    accepted=False, reason="invalid: created_at is more than 5 minutes from the relay's time"
)
_NOT_THE_RELAY: Final = Rejection("restricted: the relay alone tells who its members are")
_NO_CLAIM: Final = Ruling(accepted=False, reason="invalid: a claim tag with an invite code is due")
_INVALID: Final = Ruling(accepted=False, reason="restricted: that is an invalid invite code.")
_EXPIRED: Final = Ruling(accepted=False, reason="restricted: that invite code is expired.")
_USED: Final = Ruling(accepted=False, reason="restricted: that invite code was used already.")
_OLDER: Final = Ruling(
    accepted=False, reason="restricted: this request is older than your leaving the relay."
)
_FULL: Final = Ruling(accepted=False, reason="restricted: this relay takes no more members.")
_MEMBER: Final = Ruling(
    accepted=True, reason="duplicate: you are already a member of this relay.", keep=False
)
_NO_MEMBER: Final = Ruling(
    accepted=True, reason="duplicate: you are not a member of this relay.", keep=False
)
_UNPROTECTED: Final = Ruling(accepted=False, reason='invalid: a leave request needs a "-" tag')
_INVITES_AUTH: Final = Rejection("auth-required: invite codes are not given to everybody")
_INVITES: Final = Rejection("restricted: you may not invite others to this relay")
_READING_AUTH: Final = Rejection("auth-required: only members may read here")
_READING: Final = Rejection("restricted: only members may read here")


class MembershipRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decides once and for all."""

    enabled: bool = False
    invites: Who = "members"
    """Who is given invite codes, beside administrators."""
    invite_lifetime: int = 604_800
    """Seconds for which an invite code is good."""
    codes: tuple[str, ...] = ()
    """Codes that are always good, for anybody."""
    writing: Literal["members", "everyone"] = "members"
    reading: Literal["members", "everyone"] = "everyone"
    max_list_bytes: int = 500_000
    """So large the list's event may become."""


class Member(msgspec.Struct, frozen=True, gc=False):
    """One member."""

    since: int
    roles: tuple[str, ...] = ()


class Role(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What is told of a role. How to show it is for clients to decide."""

    label: str | None = None
    description: str | None = None
    color: int | None = None
    """A hue from 0 to 360."""
    order: int | None = None


class Membership:
    """The office of NIP-43. Also the register that management changes: see its `…_drafts`.

    `secret` seals the invite codes: whoever knows it can make them. `address` is the relay's, for
    the welcome. `random` gives so many random bytes.
    """

    def __init__(
        self,
        rules: MembershipRules,
        *,
        secret: bytes,
        admins: AbstractSet[str] = frozenset(),
        address: str | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.rules = rules
        self._secret = secret
        self._admins = admins
        self._welcome = f"info: welcome to {address or 'this relay'}!"
        self._random = random
        self._members: dict[str, Member] = {}
        """In the order in which they have joined, if `_sorted`."""
        self._sorted = True
        self._latest = 0
        self._roles: dict[str, Role] = {}
        self._used: dict[str, int] = {}
        """Codes that have admitted somebody, by their number, and when they end."""
        self._left: dict[str, int] = {}
        """When somebody has left, lately."""
        self._listed: tuple[tuple[str, ...], ...] | None = None
        """The tags of the list as it is published."""

    # --- The office

    @property
    def kinds(self) -> frozenset[int]:
        """Requests to join and to leave."""
        return frozenset([KIND_JOIN, KIND_LEAVE]) if self.rules.enabled else frozenset()

    @property
    def own_kinds(self) -> frozenset[int]:
        """The records, and what everybody can read."""
        return frozenset([KIND_RECORD, KIND_MEMBERS, KIND_ROLE])

    @property
    def noted_kinds(self) -> frozenset[int]:
        """None."""
        return frozenset()

    def rule(self, event: Event, client: Client, now: int) -> Ruling:  # noqa: ARG002
        """Admit or release the author."""
        if abs(event.created_at - now) > CLOCK_TOLERANCE:
            return _LATE
        return self._join(event, now) if event.kind == KIND_JOIN else self._leave(event)

    def note(self, event: Event) -> None:
        """Take a record, or the list as it is published, into the view."""
        if event.kind == KIND_MEMBERS:
            self._listed = event.tags
            return
        record = read_record(event)
        if record is None:
            return
        if record.list == "member":
            self._note_member(record)
        elif record.list == "role":
            if record.value is None:
                self._roles.pop(record.item, None)
            else:
                self._roles[record.item] = msgspec.convert(record.value, Role)
        elif record.list == "claim" and record.value is not None:
            self._note_claim(record, record.value)

    @property
    def checked_kinds(self) -> frozenset[int]:
        """Those of lists and roles; who may write anything else is for management to say."""
        return _OWN_ANNOUNCEMENTS if self.rules.enabled else frozenset()

    def check(self, event: Event, client: Client, now: int) -> Verdict:  # noqa: ARG002
        """Refuse lists and roles by strangers: they could deceive who names no author."""
        return _NOT_THE_RELAY

    # --- Who is what

    def is_member(self, pubkey: str) -> bool:
        """Tell whether somebody is a member now."""
        return pubkey in self._members

    @property
    def members(self) -> list[tuple[str, Member]]:
        """All members, in the order in which they have joined."""
        self._sort()
        return list(self._members.items())

    @property
    def roles(self) -> dict[str, Role]:
        """All roles, by their ids."""
        return dict(self._roles)

    @property
    def used_codes(self) -> dict[str, int]:
        """The numbers of used codes, and when each of them ends."""
        return dict(self._used)

    @property
    def restricts_writing(self) -> bool:
        """Whether only members may write."""
        return self.rules.enabled and self.rules.writing == "members"

    # --- Requests

    def judge_request(self, filters: tuple[Filter, ...], client: Client, _now: int) -> Verdict:
        """Refuse those who may not read, and those who ask for nothing but an invite in vain."""
        if not self.rules.enabled:
            return None
        if all(filter_.kinds == _INVITE_ONLY for filter_ in filters):
            if self.may_invite(client.authenticated):
                return None
            return _INVITES if client.authenticated else _INVITES_AUTH
        if self.may_read(client.authenticated):
            return None
        return _READING if client.authenticated else _READING_AUTH

    def may_read(self, authenticated: AbstractSet[str]) -> bool:
        """Tell whether who has authenticated so may read."""
        if not self.rules.enabled or self.rules.reading == "everyone":
            return True
        return self._belongs(authenticated)

    def may_invite(self, authenticated: AbstractSet[str]) -> bool:
        """Tell whether who has authenticated so is given invite codes."""
        if self.rules.invites == "everyone":
            return True
        if self.rules.invites == "members":
            return self._belongs(authenticated)
        return not self._admins.isdisjoint(authenticated)

    def offer(self, filters: tuple[Filter, ...], client: Client, now: int) -> tuple[Draft, ...]:
        """Return what is made for this request alone: an invite for whom it is due."""
        if not self.rules.enabled or not any(map(_asks_for_invite, filters)):
            return ()
        if not self.may_invite(client.authenticated):
            return ()
        return (Draft(KIND_INVITE, (("-",), ("claim", self.invite(now)))),)

    def invite(self, now: int) -> str:
        """Return a new invite code."""
        body = (now + self.rules.invite_lifetime).to_bytes(5, "big") + self._random(_NONCE_BYTES)
        return b32encode(body + self._seal(body)).decode().lower()

    # --- For management

    def admit_drafts(self, pubkey: str, now: int, roles: tuple[str, ...] = ()) -> tuple[Draft, ...]:
        """Return what makes somebody a member who is none."""
        member = Member(now, roles)
        listed = self._list_drafts(chain(self._in_order(), [(pubkey, member)]))
        added = Draft(KIND_ADDED, (("-",), ("p", pubkey)))
        return (_member_draft(pubkey, member), *listed, added)

    def remove_drafts(self, pubkey: str) -> tuple[Draft, ...]:
        """Return what ends a membership."""
        listed = self._list_drafts(item for item in self._in_order() if item[0] != pubkey)
        removed = Draft(KIND_REMOVED, (("-",), ("p", pubkey)))
        return (record_draft("member", pubkey, None), *listed, removed)

    def assign_drafts(self, pubkey: str, roles: tuple[str, ...]) -> tuple[Draft, ...]:
        """Return what gives a member these roles and no others."""
        member = Member(self._members[pubkey].since, roles)
        return (_member_draft(pubkey, member), *self._list_with({pubkey: member}))

    def role_drafts(self, role_id: str, role: Role) -> tuple[Draft, ...]:
        """Return what makes a role, or changes it."""
        told: dict[str, object] = msgspec.to_builtins(role)
        tags = [("-",), ("d", role_id), *[(name, str(value)) for name, value in told.items()]]
        return (record_draft("role", role_id, told), Draft(KIND_ROLE, tuple(tags)))

    def delete_role_drafts(self, role_id: str) -> tuple[Draft, ...]:
        """Return what ends a role; its own event is for the caller to erase."""
        changed: dict[str, Member] = {}
        for pubkey in self.holders(role_id):
            since, roles = self._members[pubkey].since, self._members[pubkey].roles
            changed[pubkey] = Member(since, tuple([one for one in roles if one != role_id]))
        records = [_member_draft(pubkey, member) for pubkey, member in changed.items()]
        return (record_draft("role", role_id, None), *records, *self._list_with(changed))

    def holders(self, role_id: str) -> list[str]:
        """Return the members who have a role."""
        return [pubkey for pubkey, member in self._members.items() if role_id in member.roles]

    def roles_of(self, pubkey: str) -> tuple[str, ...]:
        """Return a member's roles; none for somebody else."""
        member = self._members.get(pubkey)
        return () if member is None else member.roles

    @property
    def is_full(self) -> bool:
        """Whether nobody else can become a member."""
        return len(self._members) >= MOST_MEMBERS

    # --- Within

    def _belongs(self, authenticated: AbstractSet[str]) -> bool:
        return not (
            self._members.keys().isdisjoint(authenticated)
            and self._admins.isdisjoint(authenticated)
        )

    def _join(self, event: Event, now: int) -> Ruling:
        pubkey = event.pubkey
        if pubkey in self._members:
            return _MEMBER
        claim = first_value(event, "claim")
        if claim is None:
            return _NO_CLAIM
        if event.created_at < self._left.get(pubkey, 0):
            return _OLDER
        used: tuple[Draft, ...] = ()
        if not self._is_standing(claim):
            opened = self._opened(claim)
            if opened is None:
                return _INVALID
            number, ends = opened
            if ends <= now:
                return _EXPIRED
            if number in self._used:
                return _USED
            if len(self._used) >= _MOST_USED_CODES:
                return _FULL
            used = (record_draft("claim", number, {"ends": ends, "by": pubkey}, expires=ends),)
        if self.is_full:
            return _FULL
        drafts = (*used, *self.admit_drafts(pubkey, now))
        return Ruling(accepted=True, reason=self._welcome, keep=False, drafts=drafts)

    def _leave(self, event: Event) -> Ruling:
        if not is_protected(event):
            return _UNPROTECTED
        if event.pubkey not in self._members:
            return _NO_MEMBER
        drafts = self.remove_drafts(event.pubkey)
        return Ruling(
            accepted=True, reason="info: you have left this relay.", keep=False, drafts=drafts
        )

    def _is_standing(self, claim: str) -> bool:
        given = claim.encode()
        return any(hmac.compare_digest(given, code.encode()) for code in self.rules.codes)

    def _opened(self, claim: str) -> tuple[str, int] | None:
        """Return a code's number and its end; `None` for what is no code of this relay's."""
        if len(claim) != _CODE_CHARACTERS or not claim.isascii():
            return None
        try:
            code = b32decode(claim.upper())
        except Base32Error:
            return None
        body, seal = code[:-_SEAL_BYTES], code[-_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(body)):
            return None
        return body[5:].hex(), int.from_bytes(body[:5], "big")

    def _seal(self, body: bytes) -> bytes:
        return hmac.digest(self._secret, b"invite" + body, "sha256")[:_SEAL_BYTES]

    def _note_member(self, record: PrivateRecord) -> None:
        if record.value is None:
            self._members.pop(record.item, None)
            self._left.pop(record.item, None)
            self._left[record.item] = record.at
            if len(self._left) > _MOST_LEFT:
                del self._left[next(iter(self._left))]
            return
        member = msgspec.convert(record.value, Member)
        known = self._members.get(record.item)
        if known is None or known.since != member.since:
            self._members.pop(record.item, None)
            self._sorted = self._sorted and member.since > self._latest
            self._latest = max(self._latest, member.since)
        self._members[record.item] = member

    def _note_claim(self, record: PrivateRecord, value: dict[str, object]) -> None:
        ends = value.get("ends")
        if not isinstance(ends, int):
            return
        if len(self._used) >= _MOST_USED_CODES:
            self._used = {one: end for one, end in self._used.items() if end > record.at}
        self._used[record.item] = ends

    def _sort(self) -> None:
        if not self._sorted:
            ordered = sorted(self._members.items(), key=lambda item: (item[1].since, item[0]))
            self._members = dict(ordered)
            self._sorted = True

    def _in_order(self) -> Iterable[tuple[str, Member]]:
        self._sort()
        return self._members.items()

    def _list_with(self, changed: Mapping[str, Member]) -> tuple[Draft, ...]:
        return self._list_drafts(
            (pubkey, changed.get(pubkey, member)) for pubkey, member in self._in_order()
        )

    def _list_drafts(self, members: Iterable[tuple[str, Member]]) -> tuple[Draft, ...]:
        """Return the list as it is to be; nothing if that is how it is published."""
        tags = (("-",), *self._list_tags(members))
        return () if tags == self._listed else (Draft(KIND_MEMBERS, tags),)

    def _list_tags(self, members: Iterable[tuple[str, Member]]) -> Iterator[tuple[str, ...]]:
        room = self.rules.max_list_bytes - _EVENT_BYTES
        for pubkey, member in members:
            room -= _TAG_BYTES
            if member.roles:
                # a role's id may need six bytes for a character
                room -= sum([6 * len(role) + 3 for role in member.roles])
            if room < 0:
                return
            yield ("member", pubkey, *member.roles)


_INVITE_ONLY: Final = frozenset([KIND_INVITE])
_EVENT_BYTES: Final = 500
"""More than all of an event but its tags."""
_TAG_BYTES: Final = len('["member",""],') + 64


def _asks_for_invite(filter_: Filter) -> bool:
    return filter_.kinds is not None and KIND_INVITE in filter_.kinds and filter_.limit != 0


def _member_draft(pubkey: str, member: Member) -> Draft:
    return record_draft("member", pubkey, {"since": member.since, "roles": list(member.roles)})
