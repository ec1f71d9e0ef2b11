"""The built-in checks. Each is a small function, or a function that returns one."""

from typing import Final

import msgspec

from relay.policy.verdict import Client, EventCheck, Rejection, Verdict
from relay.protocol.auth import host_of
from relay.protocol.event import (
    KIND_AUTH,
    KIND_GENERIC_REPOST,
    KIND_REPOST,
    KIND_VANISH,
    Event,
    committed_target,
    expiration,
    is_protected,
)
from relay.protocol.filters import Filter
from relay.protocol.limits import Limits

_AUTH_EVENT: Final = Rejection(f"invalid: kind {KIND_AUTH} is for AUTH only and is never published")
_EXPIRED: Final = Rejection("invalid: the event has expired")
_PROTECTED_AUTH: Final = Rejection("auth-required: this event may only be published by its author")
_PROTECTED: Final = Rejection("restricted: this event may only be published by its author")
_NO_SEARCH: Final = Rejection("unsupported: search is switched off")
_EMBEDS_PROTECTED: Final = Rejection("blocked: a repost must not embed a protected event")


class _Embedded(msgspec.Struct):
    # not only what an event may have: whoever reads a repost may be less strict
    tags: list[object] = []


_decode_embedded: Final = msgspec.json.Decoder(_Embedded).decode

ALL_RELAYS: Final = "ALL_RELAYS"
"""What the `relay` tag of a request to vanish says instead of an address (NIP-62)."""
_NO_RELAY: Final = Rejection("invalid: a request to vanish must name a relay")
_OTHER_RELAY: Final = Rejection("invalid: this request to vanish names other relays only")


def within_size(limits: Limits) -> EventCheck:
    """Refuse events with more tags or longer content than advertised (NIP-11)."""

    def check(event: Event, _client: Client, _now: int) -> Verdict:
        if len(event.tags) > limits.max_event_tags:
            return Rejection(
                f"invalid: {len(event.tags)} tags, at most {limits.max_event_tags} are allowed"
            )
        if len(event.content) > limits.max_content_length:
            return Rejection(
                f"invalid: the content has {len(event.content)} characters, at most"
                f" {limits.max_content_length} are allowed"
            )
        return None

    return check


def within_time(limits: Limits) -> EventCheck:
    """Refuse events from too far in the past or in the future (NIP-11)."""
    oldest, newest = limits.created_at_lower_limit, limits.created_at_upper_limit

    def check(event: Event, _client: Client, now: int) -> Verdict:
        if newest is not None and event.created_at > now + newest:
            return Rejection(f"invalid: created_at is more than {newest} s in the future")
        if oldest is not None and event.created_at < now - oldest:
            return Rejection(f"invalid: created_at is more than {oldest} s in the past")
        return None

    return check


def enough_work(limits: Limits) -> EventCheck:
    """Refuse events whose id has too few leading zero bits (NIP-13).

    If the operator asks for it, the difficulty that the nonce tag commits to counts as well: who
    aims at less and is lucky has not done the work.
    """
    needed, to_be_committed = limits.min_pow_difficulty, limits.require_pow_commitment

    def check(event: Event, _client: Client, _now: int) -> Verdict:
        if event.kind == KIND_VANISH:
            return None  # to be followed whoever asks, and whatever the relay asks for otherwise
        try:
            difficulty = 256 - int(event.id, 16).bit_length()
        except ValueError:
            return None  # no hash at all: verification will say so
        if difficulty < needed:
            return Rejection(f"pow: difficulty {difficulty} is less than {needed}")
        if to_be_committed:
            target = committed_target(event)
            if target is None:
                return Rejection(f"pow: the nonce tag must commit to a difficulty of {needed}")
            if target < needed:
                return Rejection(f"pow: the committed difficulty {target} is less than {needed}")
        return None

    return check


def no_auth_events(event: Event, _client: Client, _now: int) -> Verdict:
    """Refuse to publish what is meant for AUTH only (NIP-42)."""
    return _AUTH_EVENT if event.kind == KIND_AUTH else None


def not_expired(event: Event, _client: Client, now: int) -> Verdict:
    """Refuse events that have expired (NIP-40), ephemeral ones too."""
    if not event.tags:
        return None
    expires = expiration(event)
    return _EXPIRED if expires is not None and expires <= now else None


def protected_by_author_only(event: Event, client: Client, _now: int) -> Verdict:
    """Take a protected event from its authenticated author only (NIP-70)."""
    if not event.tags or not is_protected(event) or event.pubkey in client.authenticated:
        return None
    return _PROTECTED if client.authenticated else _PROTECTED_AUTH


def no_embedded_protected(event: Event, _client: Client, _now: int) -> Verdict:
    """Refuse reposts that carry a protected event with them (NIP-70)."""
    if event.kind not in (KIND_REPOST, KIND_GENERIC_REPOST) or not event.content:
        return None
    try:
        embedded = _decode_embedded(event.content)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return _EMBEDS_PROTECTED if ["-"] in embedded.tags else None


def vanish_here(event: Event, client: Client, _now: int) -> Verdict:
    """Take requests to vanish that are for this relay, or for all (NIP-62).

    Whoever is refused otherwise, a request to vanish is not: no other check of an author's standing
    may stand in its way.
    """
    if event.kind != KIND_VANISH:
        return None
    named = [tag[1] for tag in event.tags if tag[0] == "relay" and len(tag) > 1]
    if not named:
        return _NO_RELAY
    if ALL_RELAYS in named or any(host_of(url) in client.hosts for url in named):
        return None
    return _OTHER_RELAY


def no_search(filters: tuple[Filter, ...], _client: Client, _now: int) -> Verdict:
    """Refuse requests that search (NIP-50)."""
    return _NO_SEARCH if any(filter_.search is not None for filter_ in filters) else None
