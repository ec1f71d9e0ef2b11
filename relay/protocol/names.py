"""Internet identifiers such as `bob@example.com`: who is meant by a name here (NIP-05)."""

from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import parse_qsl

import msgspec

from relay.protocol.information import PublicKey

NAMES_PATH: Final = "/.well-known/nostr.json"

LocalPart = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[a-z0-9._-]+\Z",
        extra_json_schema={"description": "a name of the characters a-z, 0-9, `-`, `_` and `.`"},
    ),
]
RelayAddress = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\Awss?://[^\s/]+\S*\Z",
        extra_json_schema={"description": "a ws:// or wss:// address"},
    ),
]

_MOST_FIELDS: Final = 16


class User(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom a name belongs to, and where that user is found."""

    pubkey: PublicKey
    relays: tuple[RelayAddress, ...] = ()


Names = Mapping[LocalPart, PublicKey | User]
"""The table of an operator: who is who."""


def names_document(names: Names, query: str, relay: str | None) -> bytes:
    """Return the JSON answer to a request with this query, such as `name=bob`.

    It tells of the one name that was asked for, in whatever case, and of nobody if that is unknown.
    `relay` is this relay's own address, given for users of whom the operator names no relays.
    """
    user = names.get(_asked(query))
    if user is None:
        return b'{"names":{}}'
    pubkey, relays = (user, ()) if isinstance(user, str) else (user.pubkey, user.relays)
    if not relays and relay is not None:
        relays = (relay,)
    answer: dict[str, object] = {"names": {_asked(query): pubkey}}
    if relays:
        answer["relays"] = {pubkey: relays}
    return msgspec.json.encode(answer)


def _asked(query: str) -> str:
    try:
        fields = parse_qsl(query, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return ""
    return next((value.lower() for name, value in fields if name == "name"), "")
