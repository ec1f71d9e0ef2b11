"""NIP-98: who it is that makes an HTTP request, by an event in its `Authorization` header.

What the head of a request proves is checked before a byte of its body is read; the body is then
compared with the hash that the event names. Both are demanded: NIP-86 requires the `payload` tag.
"""

import binascii
import hmac
from base64 import b64decode
from collections.abc import Collection
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

import msgspec

from relay.protocol.event import Event, decode_event, first_value
from relay.protocol.verify import SignatureVerifier, event_problem

KIND_HTTP_AUTH: Final = 27235
CLOCK_TOLERANCE: Final = 60
"""How far, in seconds, `created_at` may lie from the relay's clock."""

_SCHEME: Final = "nostr"
_LONGEST: Final = 8_192
"""Characters of the header; an event for one request needs about 700."""
_HTTP: Final = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HEX: Final = frozenset("0123456789abcdef")


class Unauthorized(ValueError):
    """A request does not prove who makes it. The text says why, for the answer 401."""


def authorization(
    header: str | None,
    *,
    method: str,
    urls: Collection[str],
    now: int,
    verifier: SignatureVerifier,
) -> Event:
    """Return the event that authorizes a request, by its head alone.

    `urls` are the forms under which the request's URL may have been known to its sender; `now` is
    in Unix seconds. The cheap checks come first, the signature last. Raises `Unauthorized`.
    """
    event = _event(header)
    if event.kind != KIND_HTTP_AUTH:
        raise Unauthorized(f"the event's kind must be {KIND_HTTP_AUTH}")
    if abs(event.created_at - now) > CLOCK_TOLERANCE:
        raise Unauthorized(
            f"created_at is more than {CLOCK_TOLERANCE} s from the relay's time, {now}"
        )
    wanted = {canonical_url(url) for url in urls}
    url = first_value(event, "u")
    if url is None or canonical_url(url) not in wanted:
        raise Unauthorized(f"the u tag must be {' or '.join(sorted(urls))}")
    if (first_value(event, "method") or "").upper() != method:
        raise Unauthorized(f"the method tag must be {method}")
    payload = first_value(event, "payload")
    if payload is None or len(payload) != 64 or not _HEX.issuperset(payload.lower()):
        raise Unauthorized("the payload tag must be the SHA-256 of the body, in hexadecimal digits")
    problem = event_problem(event, verifier)
    if problem is not None:
        raise Unauthorized(problem)
    return event


def check_payload(event: Event, body: bytes) -> None:
    """Compare the body with what `authorization` has returned. Raises `Unauthorized`."""
    told = (first_value(event, "payload") or "").lower()
    if not hmac.compare_digest(told, sha256(body).hexdigest()):
        raise Unauthorized("the payload tag is not the SHA-256 of the body")


def canonical_url(url: str) -> str | None:
    """Return the one way to write a URL: `None` where it is none.

    A WebSocket's address stands for the HTTP address of the same place, a missing path for `/`; the
    scheme and the host are compared without case, and a scheme's usual port is left out.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme = _HTTP.get(parts.scheme.lower())
    host = parts.hostname
    if scheme is None or not host or parts.username is not None or parts.fragment:
        return None
    if ":" in host:
        host = f"[{host}]"
    if port is not None and port != _DEFAULT_PORTS[scheme]:
        host = f"{host}:{port}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{scheme}://{host}{parts.path or '/'}{query}"


def _event(header: str | None) -> Event:
    if header is None:
        raise Unauthorized("an Authorization header is required: see NIP-98")
    scheme, _, encoded = header.strip().partition(" ")
    if scheme.lower() != _SCHEME:
        raise Unauthorized("the scheme of the Authorization header must be Nostr")
    if len(encoded) > _LONGEST:
        raise Unauthorized("the Authorization header is too long")
    encoded = encoded.strip().rstrip("=")
    encoded += "=" * (-len(encoded) % 4)
    try:
        # both alphabets, with or without padding: clients differ
        altchars = b"-_" if "-" in encoded or "_" in encoded else None
        raw = b64decode(encoded, altchars, validate=True)
    except (binascii.Error, ValueError):
        raise Unauthorized("the Authorization header must hold an event in base64") from None
    try:
        return decode_event(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Unauthorized("the Authorization header must hold an event in base64") from None
