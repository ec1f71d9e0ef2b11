"""The methods of the management API (NIP-86): a call in, a ruling or an answer out.

A method either looks (`list…`, `supportedmethods`), and its answer is made of the view at once; or
it decides, and then gives a ruling that the steward carries out. Deciding what holds already is
no change: it is answered with true, and nothing is recorded. Every change is recorded for the
audit, with who made it and how.

A ban of what is banned already is no change either, but removes again what is stored of it.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from relay.policy.blocked_addresses import InvalidAddress, canonical_address
from relay.policy.management import ALLOWED, FORBIDDEN, Management
from relay.policy.membership import (
    KIND_ROLE,
    MOST_MEMBERS_OF_A_DELETED_ROLE,
    MOST_ROLES,
    MOST_ROLES_OF_A_MEMBER,
    Role,
)
from relay.policy.records import record_draft
from relay.policy.ruling import Draft, Ruling
from relay.protocol.event import MAX_KIND, Event, is_hex64
from relay.protocol.filters import Filter
from relay.protocol.information import WebAddress

MOST_ITEMS: Final = 100_000
"""So many pubkeys, events or addresses may be allowed, or forbidden: each is held in memory."""
LONGEST_REASON: Final = 500
LONGEST_NAME: Final = 200
LONGEST_DESCRIPTION: Final = 10_000
LONGEST_ADDRESS: Final = 2_000
LONGEST_ROLE_ID: Final = 64

_NOTHING_NEW: Final = Ruling(accepted=True)


class InvalidCall(ValueError):
    """A call asks for what cannot be. The text is the answer's `error`."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call, by an administrator who has proven to be one."""

    admin: str
    """Who calls: a pubkey."""
    address: str
    """From where, without the port."""
    method: str
    params: tuple[Any, ...]
    call_id: str
    """The same only for the same call: the start of its authorization's signature."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller of `decide` has looked up for it."""

    event: Event | None = None
    """The stored event that the call names, if there is one."""


def supported_methods() -> list[str]:
    """Return the names of all methods but the one that asks for them."""
    return [*_DECISIONS, *_LISTS, NEEDS_MODERATION]


NEEDS_MODERATION: Final = "listeventsneedingmoderation"
SUPPORTED: Final = "supportedmethods"


def is_known(method: str) -> bool:
    """Tell whether there is such a method."""
    return method in _DECISIONS or method in _LISTS or method in (SUPPORTED, NEEDS_MODERATION)


def decides(method: str) -> bool:
    """Tell whether a method may change something, and so is for `decide`."""
    return method in _DECISIONS


def is_ban(method: str) -> bool:
    """Tell whether a method bans: then what it erases may go later than it is refused."""
    return method in ("banpubkey", "banevent")


def is_banned(management: Management, call: Call) -> bool:
    """Tell whether what a call has banned is still banned."""
    subject = call.params[0]
    return subject in management.banned_pubkeys or subject in management.banned_events


def named_event(call: Call) -> str | None:
    """Return the id of the event that a call is about, if it is about one."""
    if call.method not in ("banevent", "allowevent") or not call.params:
        return None
    event_id = call.params[0]
    return event_id if isinstance(event_id, str) and is_hex64(event_id) else None


def look(management: Management, call: Call) -> object:
    """Return the answer to a method that looks; for `listeventsneedingmoderation`, see there.

    Raises `InvalidCall`.
    """
    take_nothing(call.params)
    if call.method == SUPPORTED:
        return supported_methods()
    return _LISTS[call.method](management)


def decide(management: Management, call: Call, subject: Subject, now: int) -> Ruling:
    """Return what comes of a method that decides. Raises `InvalidCall`."""
    ruling = _DECISIONS[call.method](management, call, subject, now)
    if not ruling.drafts:
        return ruling
    record = record_draft(
        "audit",
        f"{now}-{call.call_id}",
        {"admin": call.admin, "method": call.method, "params": list(call.params)},
    )
    return msgspec.structs.replace(ruling, drafts=(*ruling.drafts, record))


# --- Pubkeys


def _ban_pubkey(management: Management, call: Call, _subject: Subject, _now: int) -> Ruling:
    pubkey, reason = _pubkey(call.params, 2), _reason(call.params)
    if pubkey in management.rules.admins or pubkey == management.own_key:
        raise InvalidCall("an administrator, or the relay itself, cannot be banned")
    drafts: list[Draft] = []
    if management.banned_pubkeys.get(pubkey) != reason:
        _room(management.banned_pubkeys, pubkey)
        drafts.append(_marked("pubkey", pubkey, FORBIDDEN, reason))
        if management.membership.is_member(pubkey):
            drafts += management.membership.remove_drafts(pubkey)
    return _ruling(drafts, Filter(authors=frozenset([pubkey])))


def _unban_pubkey(management: Management, call: Call, _subject: Subject, _now: int) -> Ruling:
    pubkey = _pubkey(call.params, 2)
    _reason(call.params)
    if pubkey not in management.banned_pubkeys:
        return _NOTHING_NEW
    return _ruling([record_draft("pubkey", pubkey, None)])


def _allow_pubkey(management: Management, call: Call, _subject: Subject, now: int) -> Ruling:
    pubkey, reason = _pubkey(call.params, 2), _reason(call.params)
    membership = management.membership
    drafts: list[Draft] = []
    if management.allowed_pubkeys.get(pubkey) != reason:
        _room(management.allowed_pubkeys, pubkey)
        drafts.append(_marked("pubkey", pubkey, ALLOWED, reason))
    if membership.rules.enabled and not membership.is_member(pubkey):
        drafts += _admitted(management, pubkey, now)
    return _ruling(drafts)


def _unallow_pubkey(management: Management, call: Call, _subject: Subject, _now: int) -> Ruling:
    pubkey = _pubkey(call.params, 2)
    _reason(call.params)
    membership = management.membership
    drafts: list[Draft] = []
    if pubkey in management.allowed_pubkeys:
        drafts.append(record_draft("pubkey", pubkey, None))
    if membership.rules.enabled and membership.is_member(pubkey):
        drafts += membership.remove_drafts(pubkey)
    return _ruling(drafts)


# --- Roles


def _create_role(management: Management, call: Call, _subject: Subject, _now: int) -> Ruling:
    role_id, role = _role(call.params)
    roles = management.membership.roles
    if role_id in roles:
        raise InvalidCall(f"there is a role {role_id} already: see editrole")
    if len(roles) >= MOST_ROLES:
        raise InvalidCall(f"there are {MOST_ROLES} roles already")
    return _ruling(management.membership.role_drafts(role_id, role))


def _edit_role(management: Management, call: Call, _subject: Subject, _now: int) -> Ruling:
    role_id, role = _role(call.params)
    _existing_role(management, role_id)
    if management.membership.roles[role_id] == role:
        return _NOTHING_NEW
    return _ruling(management.membership.role_drafts(role_id, role))


def _delete_role(management: Management, call: Call, _subject: Subject, _now: int) -> Ruling:
    _at_most(call.params, 1)
    role_id = _role_id(call.params, 0)
    membership = management.membership
    if role_id not in membership.roles:
        return _NOTHING_NEW
    holders = len(membership.holders(role_id))
    if holders > MOST_MEMBERS_OF_A_DELETED_ROLE:
        raise InvalidCall(
            f"{holders} members have this role; with more than"
            f" {MOST_MEMBERS_OF_A_DELETED_ROLE}, unassign it first"
        )
    own = Filter(
        authors=frozenset([management.own_key]),
        kinds=frozenset([KIND_ROLE]),
        tags=(("d", frozenset([role_id])),),
    )
    return _ruling(membership.delete_role_drafts(role_id), own)


def _assign_role(management: Management, call: Call, _subject: Subject, now: int) -> Ruling:
    pubkey, role_id = _pubkey(call.params, 2), _role_id(call.params, 1)
    _existing_role(management, role_id)
    membership = management.membership
    roles = membership.roles_of(pubkey)
    if role_id in roles:
        return _NOTHING_NEW
    if len(roles) >= MOST_ROLES_OF_A_MEMBER:
        raise InvalidCall(f"a member has at most {MOST_ROLES_OF_A_MEMBER} roles")
    if pubkey in management.banned_pubkeys:
        raise InvalidCall("this pubkey is banned")
    if membership.is_member(pubkey):
        return _ruling(membership.assign_drafts(pubkey, (*roles, role_id)))
    return _ruling(_admitted(management, pubkey, now, (role_id,)))


def _unassign_role(management: Management, call: Call, _subject: Subject, _now: int) -> Ruling:
    pubkey, role_id = _pubkey(call.params, 2), _role_id(call.params, 1)
    membership = management.membership
    roles = membership.roles_of(pubkey)
    if role_id not in roles:
        return _NOTHING_NEW
    left = tuple([one for one in roles if one != role_id])
    return _ruling(membership.assign_drafts(pubkey, left))


# --- Events and kinds


def _ban_event(management: Management, call: Call, subject: Subject, _now: int) -> Ruling:
    event_id, reason = _event_id(call.params, 2), _reason(call.params)
    if subject.event is not None and subject.event.pubkey == management.own_key:
        raise InvalidCall("the relay's own events cannot be banned")
    drafts: list[Draft] = []
    if management.banned_events.get(event_id) != reason:
        _room(management.banned_events, event_id)
        drafts.append(_marked("event", event_id, FORBIDDEN, reason))
    return _ruling(drafts, Filter(ids=frozenset([event_id])))


def _allow_event(management: Management, call: Call, _subject: Subject, _now: int) -> Ruling:
    event_id, reason = _event_id(call.params, 2), _reason(call.params)
    if management.allowed_events.get(event_id) == reason:
        return _NOTHING_NEW
    _room(management.allowed_events, event_id)
    return _ruling([_marked("event", event_id, ALLOWED, reason)])


def _allow_kind(management: Management, call: Call, _subject: Subject, _now: int) -> Ruling:
    kind = _kind(call.params)
    if kind in management.allowed_kinds:
        return _NOTHING_NEW
    return _ruling([_marked("kind", str(kind), ALLOWED, "")])


def _disallow_kind(management: Management, call: Call, _subject: Subject, _now: int) -> Ruling:
    kind = _kind(call.params)
    if kind in management.disallowed_kinds:
        return _NOTHING_NEW
    return _ruling([_marked("kind", str(kind), FORBIDDEN, "")])


# --- Addresses and the description


def _block_address(management: Management, call: Call, _subject: Subject, _now: int) -> Ruling:
    address, reason = _address(call.params, 2), _reason(call.params)
    if dict(management.addresses.items()).get(address) == reason:
        return _NOTHING_NEW
    if len(management.addresses) >= MOST_ITEMS:
        raise InvalidCall(f"there are {MOST_ITEMS} on this list already")
    alone = type(management.addresses)()
    alone.block(address, reason)
    if alone.covers(call.address):
        raise InvalidCall("that is the address that this call comes from")
    return _ruling([record_draft("address", address, {"reason": reason})])


def _unblock_address(management: Management, call: Call, _subject: Subject, _now: int) -> Ruling:
    address = _address(call.params, 2)
    if address not in management.addresses:
        return _NOTHING_NEW
    return _ruling([record_draft("address", address, None)])


def _change(name: str, longest: int) -> "_Decision":
    def change(management: Management, call: Call, _subject: Subject, _now: int) -> Ruling:
        _at_most(call.params, 1)
        value = _text(call.params, 0, name, longest)
        if name == "icon" and value:
            try:
                msgspec.convert(value, WebAddress)
            except msgspec.ValidationError:
                raise InvalidCall("icon must be an http:// or https:// address") from None
        if management.description.get(name, "") == value:
            return _NOTHING_NEW
        return _ruling([record_draft("information", name, {"value": value} if value else None)])

    return change


_Decision = Callable[[Management, Call, Subject, int], Ruling]
_DECISIONS: Final[dict[str, _Decision]] = {
    "banpubkey": _ban_pubkey,
    "unbanpubkey": _unban_pubkey,
    "allowpubkey": _allow_pubkey,
    "unallowpubkey": _unallow_pubkey,
    "createrole": _create_role,
    "editrole": _edit_role,
    "deleterole": _delete_role,
    "assignrole": _assign_role,
    "unassignrole": _unassign_role,
    "allowevent": _allow_event,
    "banevent": _ban_event,
    "changerelayname": _change("name", LONGEST_NAME),
    "changerelaydescription": _change("description", LONGEST_DESCRIPTION),
    "changerelayicon": _change("icon", LONGEST_ADDRESS),
    "allowkind": _allow_kind,
    "disallowkind": _disallow_kind,
    "blockip": _block_address,
    "unblockip": _unblock_address,
}


# --- Lists


def _listed(items: Sequence[tuple[str, str]], name: str) -> list[dict[str, str]]:
    return [{name: item, "reason": reason} for item, reason in items]


def _list_allowed(management: Management) -> object:
    allowed = dict(management.allowed_pubkeys)
    if management.membership.rules.enabled:
        for pubkey, _ in management.membership.members:
            allowed.setdefault(pubkey, "")
    return _listed(list(allowed.items()), "pubkey")


_LISTS: Final[dict[str, Callable[[Management], object]]] = {
    "listbannedpubkeys": lambda one: _listed(list(one.banned_pubkeys.items()), "pubkey"),
    "listallowedpubkeys": _list_allowed,
    "listbannedevents": lambda one: _listed(list(one.banned_events.items()), "id"),
    "listallowedkinds": lambda one: sorted(one.allowed_kinds),
    "listblockedips": lambda one: _listed(one.addresses.items(), "ip"),
}


def reported(found: dict[str, str], stored: frozenset[str]) -> object:
    """Return the answer to `listeventsneedingmoderation`: what was reported and is stored."""
    return _listed([item for item in found.items() if item[0] in stored], "id")


# --- Parameters


def _at_most(params: Sequence[object], count: int) -> None:
    if len(params) > count:
        raise InvalidCall(f"{len(params)} parameters were given, at most {count} are taken")


def take_nothing(params: Sequence[object]) -> None:
    """Raise `InvalidCall` if there are parameters."""
    _at_most(params, 0)


def _hex(params: Sequence[object], count: int, what: str) -> str:
    _at_most(params, count)
    value = params[0] if params else None
    if not isinstance(value, str) or not is_hex64(value):
        raise InvalidCall(f"the first parameter must be {what}: 64 lowercase hexadecimal digits")
    return value


def _pubkey(params: Sequence[object], count: int) -> str:
    return _hex(params, count, "a pubkey")


def _event_id(params: Sequence[object], count: int) -> str:
    return _hex(params, count, "an event's id")


def _reason(params: Sequence[object]) -> str:
    """Return the second parameter, which may be missing, or null."""
    if len(params) < 2 or params[1] is None:
        return ""
    return _text(params, 1, "reason", LONGEST_REASON)


def _text(params: Sequence[object], place: int, name: str, longest: int) -> str:
    value = params[place] if len(params) > place else None
    if not isinstance(value, str) or len(value) > longest:
        raise InvalidCall(f"{name} must be text of at most {longest} characters")
    if any(ord(character) < 32 and character not in "\n\r\t" for character in value):
        raise InvalidCall(f"{name} must not hold control characters")
    return value


def _kind(params: Sequence[object]) -> int:
    _at_most(params, 1)
    value = params[0] if params else None
    if type(value) is not int or not 0 <= value <= MAX_KIND:
        raise InvalidCall(f"the parameter must be a kind: an integer from 0 to {MAX_KIND}")
    return value


def _address(params: Sequence[object], count: int) -> str:
    _at_most(params, count)
    value = params[0] if params else None
    if not isinstance(value, str) or len(value) > 100:
        raise InvalidCall("the first parameter must be an IP address")
    try:
        return canonical_address(value)
    except InvalidAddress as error:
        raise InvalidCall(f"the address {error}") from None


def _role_id(params: Sequence[object], place: int) -> str:
    value = params[place] if len(params) > place else None
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_ROLE_ID:
        raise InvalidCall(f"a role's id must be text of 1 to {LONGEST_ROLE_ID} characters")
    return _text(params, place, "id", LONGEST_ROLE_ID)


def _role(params: Sequence[object]) -> tuple[str, Role]:
    _at_most(params, 5)
    role_id = _role_id(params, 0)
    label, description = (
        _text(params, place, name, longest) if _is_given(params, place) else None
        for place, name, longest in (
            (1, "label", LONGEST_NAME),
            (2, "description", LONGEST_DESCRIPTION),
        )
    )
    return role_id, Role(
        label=label,
        description=description,
        color=_number(params, 3, "color", 0, 360),
        order=_number(params, 4, "order", -1_000_000, 1_000_000),
    )


def _is_given(params: Sequence[object], place: int) -> bool:
    return len(params) > place and params[place] is not None


def _number(params: Sequence[object], place: int, name: str, low: int, high: int) -> int | None:
    """Return a whole number; clients also send it as the text that it is in the role's event."""
    if not _is_given(params, place):
        return None
    value = params[place]
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,7}", value):
        value = int(value)
    if type(value) is not int or not low <= value <= high:
        raise InvalidCall(f"{name} must be a whole number from {low} to {high}")
    return value


def _existing_role(management: Management, role_id: str) -> None:
    if role_id not in management.membership.roles:
        raise InvalidCall(f"there is no role {role_id}")


# --- Rulings


def _ruling(drafts: Sequence[Draft], *erase: Filter) -> Ruling:
    return Ruling(accepted=True, drafts=tuple(drafts), erase=erase)


def _marked(list_name: str, item: str, state: str, reason: str) -> Draft:
    return record_draft(list_name, item, {"state": state, "reason": reason})


def _admitted(
    management: Management, pubkey: str, now: int, roles: tuple[str, ...] = ()
) -> tuple[Draft, ...]:
    if management.membership.is_full:
        raise InvalidCall("the relay takes no more members")
    return management.membership.admit_drafts(pubkey, now, roles)


def _room(listed: dict[str, str], item: str) -> None:
    if len(listed) >= MOST_ITEMS and item not in listed:
        raise InvalidCall(f"there are {MOST_ITEMS} on this list already")
