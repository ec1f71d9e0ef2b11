"""NIP-42: whether an AUTH event proves that its author holds this connection.

The proof names a challenge and a relay. The challenge alone would not do: another relay, to which a
user authenticates, could pass on ours. So the name in the proof is compared with those under which
this relay is reached (`names_of`).
"""

import ipaddress
import re
from collections.abc import Set as AbstractSet
from typing import Final
from urllib.parse import urlsplit

from relay.protocol.event import KIND_AUTH, Event, first_value
from relay.protocol.verify import SignatureVerifier, event_problem

_AMBIGUOUS: Final = re.compile(r"[\x00-\x20\x7f\\]").search
"""What some programs take for the end of the host, and others for a part of it, or leave out."""

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
    """Return the host name in a `ws://`, `wss://` or bare `host:port` address, in its one form.

    That is lowercase, in the ASCII of IDNA 2003, without a trailing dot; an IP address at its
    shortest. `None` where there is none, or where programs disagree which it is. Ports and paths
    are left out: a proxy may listen on another port.
    """
    if _AMBIGUOUS(url):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        host = parts.hostname
        if not host or "@" in parts.netloc:
            return None
        if not host.isascii():
            host = host.encode("idna").decode().lower()
    except ValueError:  # of which UnicodeError is one
        return None
    host = host.rstrip(".")
    try:
        return ipaddress.ip_address(host).compressed
    except ValueError:
        return host or None


def names_of(public_url: str | None, dialled: str, *, is_local: bool) -> frozenset[str]:
    """Return the names under which a peer that has `dialled` this host may say it reached us.

    With a `public_url` only its host counts, and for a peer on this machine (`is_local`) the
    loopback name that it has dialled. Without one, the name that was dialled must be believed.
    """
    name = host_of(dialled)
    if public_url is None:
        return frozenset() if name is None else frozenset({name})
    public = host_of(public_url)
    names = {public, name} if is_local and name is not None and _is_loopback(name) else {public}
    return frozenset([one for one in names if one is not None])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
