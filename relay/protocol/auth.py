"""NIP-42: whether an AUTH event proves that its author holds this connection."""

from collections.abc import Set as AbstractSet
from typing import Final
from urllib.parse import urlsplit

from relay.protocol.event import KIND_AUTH, Event, first_value
from relay.protocol.verify import SignatureVerifier, event_problem

CLOCK_TOLERANCE: Final = 600
"""How far, in seconds, `created_at` may lie from the relay's clock (NIP-42: about 10 minutes)."""


def auth_problem(
    event: Event,
    challenge: str,
    hosts: AbstractSet[str],
    now: int,
    verifier: SignatureVerifier,
) -> str | None:
    """Return why the AUTH is refused, prefix included; `None` when it is good.

    `hosts` are the names under which this relay is reached (see `host_of`). The cheap checks come
    first, the signature last.
    """
    if event.kind != KIND_AUTH:
        return f"invalid: an AUTH event has kind {KIND_AUTH}"
    if abs(event.created_at - now) > CLOCK_TOLERANCE:
        return "invalid: created_at is more than 10 minutes from the relay's time"
    if first_value(event, "challenge") != challenge:
        return "invalid: the challenge is not the one of this connection"
    if host_of(first_value(event, "relay") or "") not in hosts:
        return "invalid: the relay tag names another relay"
    return event_problem(event, verifier)


def host_of(url: str) -> str | None:
    """Return the lowercase host name in a `ws://`, `wss://` or bare `host:port` address.

    `None` where there is none. Ports are left out: a proxy may listen on another one.
    """
    try:
        host = urlsplit(url if "://" in url else f"//{url}").hostname
    except ValueError:
        return None
    return host.rstrip(".") if host else None
