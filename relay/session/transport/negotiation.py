"""Which compression a connection uses: the negotiation of permessage-deflate (RFC 7692).

A client offers the extension in its opening handshake, maybe several times with different
parameters, the one it likes best first. The first offer that can be met is taken. An offer that is
malformed or cannot be met is declined, which is never an error: the connection then goes without
compression (section 5.1 and 7.1).

The two ways to compress differ in what they cost. `shared` forbids both sides to refer back to
earlier messages: then a compressed message fits every peer, is made once for all of them, and a
connection holds nothing between two messages. `per_connection` allows it: short notes shrink to a
half instead of two thirds, but each message is compressed anew for each peer, and a connection
that has sent and received holds 35 kB more for what it sends, and 15 kB (40 with a client that does
not let us choose its window) for what it receives; an idle one needs 30 without.

Why `shared` also refuses the *client's* context (`client_no_context_takeover`): an inflater with a
window of 32 KiB is 40 kB for each connection, for the sake of requests that are short.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

WINDOW_BITS: Final = 12
"""The window of everything that is compressed here: 4 KiB.

Events are mostly hexadecimal digits, which refer to nothing. Against 32 KiB a follow list of 20 kB
comes out 4 % smaller (short distances need fewer bits), a long article 2 % larger, and the state
is an eighth as large.
"""

_LARGEST_WINDOW_BITS: Final = 15
_SMALLEST_WINDOW_BITS: Final = 9
"""zlib cannot compress with 8, the smallest that an offer may name (section 7.1.2.1)."""

_NAME: Final = "permessage-deflate"
_SERVER_NO_CONTEXT: Final = "server_no_context_takeover"
_CLIENT_NO_CONTEXT: Final = "client_no_context_takeover"
_SERVER_WINDOW: Final = "server_max_window_bits"
_CLIENT_WINDOW: Final = "client_max_window_bits"

_QUOTED_TOKEN: Final = re.compile(r'"([!#$%&\'*+.^_`|~0-9A-Za-z-]+)"')
_BITS: Final = re.compile(r"[89]|1[0-5]")
_SPACE: Final = " \t"


class Compression(Enum):
    """What the relay agrees to when a client offers compression."""

    OFF = "off"
    SHARED = "shared"
    """Each message on its own: compressed once, sent to many."""
    PER_CONNECTION = "per_connection"
    """Messages may refer back to earlier ones of the same connection."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """The parameters of permessage-deflate on one connection."""

    answer: bytes
    """The value of our Sec-WebSocket-Extensions header."""
    server_keeps_context: bool
    """Whether what we send may refer back to our earlier messages."""
    server_window_bits: int
    """The window of what we send."""
    client_keeps_context: bool
    client_window_bits: int

    @property
    def is_shared(self) -> bool:
        """Whether frames that were deflated without a context may be sent (`deflate`).

        Where it is false, everything compressed must come from this connection's own `Deflater`.
        """
        return not self.server_keeps_context and self.server_window_bits >= WINDOW_BITS


def negotiate(header: str, compression: Compression) -> Agreement | None:
    """Answer a Sec-WebSocket-Extensions header; None when there will be no compression."""
    if compression is Compression.OFF:
        return None
    # Quoted values must be tokens once they are unquoted (RFC 6455 section 9.1).
    plain = _QUOTED_TOKEN.sub(r"\1", header)
    if '"' in plain:
        return None
    for offer in plain.split(","):
        name, *parameters = (part.strip(_SPACE) for part in offer.split(";"))
        if name != _NAME:
            continue
        offered = _parse(parameters)
        agreement = None if offered is None else _meet(offered, compression)
        if agreement is not None:
            return agreement
    return None


def _parse(parameters: list[str]) -> dict[str, int | None] | None:
    """Return the parameters of an offer with their values; None when it must be declined.

    That is for unknown and repeated parameters and bad values (section 7.1).
    """
    offered: dict[str, int | None] = {}
    for parameter in parameters:
        name, equals, value = (part.strip(_SPACE) for part in parameter.partition("="))
        if name in offered:
            return None
        if name in (_SERVER_WINDOW, _CLIENT_WINDOW) and _BITS.fullmatch(value):
            offered[name] = int(value)
        elif name in (_SERVER_NO_CONTEXT, _CLIENT_NO_CONTEXT, _CLIENT_WINDOW) and not equals:
            offered[name] = None
        else:
            return None
    return offered


def _meet(offered: dict[str, int | None], compression: Compression) -> Agreement | None:
    """Return what an offer leads to; None when it asks for a window that is too small."""
    shared = compression is Compression.SHARED
    answer = [_NAME]
    server_keeps = client_keeps = True
    if shared or _SERVER_NO_CONTEXT in offered:
        # A server may demand this unasked (section 7.1.1.1) ...
        server_keeps = False
        answer.append(_SERVER_NO_CONTEXT)
    if shared or _CLIENT_NO_CONTEXT in offered:
        # ... and this (section 7.1.1.2).
        client_keeps = False
        answer.append(_CLIENT_NO_CONTEXT)
    server_bits = WINDOW_BITS
    if (wanted := offered.get(_SERVER_WINDOW)) is not None:
        server_bits = min(wanted, WINDOW_BITS)
        if server_bits < (WINDOW_BITS if shared else _SMALLEST_WINDOW_BITS):
            return None
        answer.append(f"{_SERVER_WINDOW}={server_bits}")
    client_bits = _LARGEST_WINDOW_BITS
    if _CLIENT_WINDOW in offered and client_keeps:
        # Only whoever offers it understands it (section 7.1.2.2). Without a context the window
        # does not outlive the message, so its size is the client's own affair.
        client_bits = min(offered[_CLIENT_WINDOW] or _LARGEST_WINDOW_BITS, WINDOW_BITS)
        answer.append(f"{_CLIENT_WINDOW}={client_bits}")
    return Agreement(
        answer="; ".join(answer).encode(),
        server_keeps_context=server_keeps,
        server_window_bits=server_bits,
        client_keeps_context=client_keeps,
        client_window_bits=client_bits,
    )
