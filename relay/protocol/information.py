"""What the relay tells about itself (NIP-11), as one JSON document.

The `limitation` part is made from the same `Limits` that are enforced, and the list of NIPs from
what is switched on: a relay does not advertise what it does not do.
"""

from typing import Annotated, Final

import msgspec

from relay.protocol.limits import Limits

MEDIA_TYPE: Final = "application/nostr+json"
"""The content type of the document, and what a client names in `Accept` to get it."""

SUPPORTED_NIPS: Final = (1, 9, 11, 13, 40, 42, 45, 62, 67, 70, 77)
"""The NIPs that every relay of this software serves, in ascending order."""

OPTIONAL_NIPS: Final[dict[str, tuple[int, ...]]] = {
    "names": (5,),
    "search": (50,),
    "membership": (43,),
    "management": (86, 98),
    "groups": (29,),
    "private_messages": (4, 17, 59),
}
"""The NIPs that are served where a field of `Features` is switched on."""

SOFTWARE: Final = "https://trio-relay.example/"
"""The project's home page. A reserved name, which nobody can take, until there is one."""

PublicKey = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[0-9a-f]{64}\Z",
        extra_json_schema={"description": "a public key: 64 lowercase hexadecimal digits"},
    ),
]
WebAddress = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\Ahttps?://[^\s/]+\S*\Z",
        extra_json_schema={"description": "an http:// or https:// address"},
    ),
]


class Fee(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One price."""

    amount: Annotated[int, msgspec.Meta(ge=0)]
    """How much, in `unit`."""
    unit: str
    """The unit of `amount`, such as `msats`."""
    period: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """How many seconds it pays for; absent: for ever."""
    kinds: tuple[int, ...] | None = None
    """The kinds of events it is asked for; absent: all."""


class Fees(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The price list. It is only shown: this relay collects nothing."""

    admission: tuple[Fee, ...] = ()
    """What it costs to be admitted."""
    subscription: tuple[Fee, ...] = ()
    """What it costs per period."""
    publication: tuple[Fee, ...] = ()
    """What it costs to publish events."""


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator can switch on, and clients should know of. See `OPTIONAL_NIPS`."""

    names: bool = False
    """Whether it serves internet identifiers (NIP-05)."""
    membership: bool = False
    """Whether it admits members (NIP-43)."""
    management: bool = False
    """Whether it has administrators, who manage it by HTTP (NIP-86, NIP-98)."""
    groups: bool = False
    """Whether it keeps groups (NIP-29)."""
    private_messages: bool = False
    """Whether private messages are shown to authors and recipients only (NIP-04, NIP-17,
    NIP-59)."""
    search: bool = False
    """Whether events can be searched by their words (NIP-50)."""


def supported_nips(features: Features) -> tuple[int, ...]:
    """Return the NIPs that are served, in ascending order."""
    optional = [
        number
        for name, numbers in OPTIONAL_NIPS.items()
        if getattr(features, name)
        for number in numbers
    ]
    return tuple(sorted({*SUPPORTED_NIPS, *optional}))


class RelayInformation(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator says about this relay. What is `None` is left out of the document."""

    name: str | None = "trio-relay"
    """The relay's name; clients may cut it after 30 characters."""
    description: str | None = "A Nostr relay on Trio."
    """What the relay is for, as plain text; an empty line separates paragraphs."""
    banner: WebAddress | None = None
    """A wide picture for the relay's page in clients."""
    icon: WebAddress | None = None
    """A small square picture for lists of relays."""
    pubkey: PublicKey | None = None
    """The operator's public key, for direct messages about the relay."""
    contact: str | None = None
    """Another way to reach the operator; an address such as `mailto:…` or `https://…`."""
    terms_of_service: WebAddress | None = None
    """Where the terms of service can be read."""
    payments_url: WebAddress | None = None
    """Where users can pay the fees."""
    fees: Fees | None = None
    """The price list: tables `admission`, `subscription` and `publication`, each a list of
    `amount`, `unit`, `period` (seconds) and `kinds`. It is only shown; nothing is collected."""


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is told of the relay, as it is at one moment."""

    information: RelayInformation
    limits: Limits
    features: Features = Features()
    own_key: str | None = None
    """The relay's own public key: `self`."""
    restricted_writes: bool = False
    """Whether a policy beyond `limits` decides who may write, or what."""


def document(announcement: Announcement, *, version: str) -> bytes:
    """Return the NIP-11 document as JSON. `version` is the software's.

    A demand for proof of work counts as a restriction of writing by itself.
    """
    limits = announcement.limits
    fields: dict[str, object] = msgspec.to_builtins(announcement.information)
    fields["self"] = announcement.own_key
    fields["supported_nips"] = supported_nips(announcement.features)
    if announcement.features.groups:
        fields["nip29"] = {"subgroups": True}
    fields["software"] = SOFTWARE
    fields["version"] = version
    fields["limitation"] = _without_absent(
        {
            "max_message_length": limits.max_message_length,
            "max_subscriptions": limits.max_subscriptions,
            "max_filters": limits.max_filters,
            "max_limit": limits.max_limit,
            "max_subid_length": limits.max_subid_length,
            "max_event_tags": limits.max_event_tags,
            "max_content_length": limits.max_content_length,
            "min_pow_difficulty": limits.min_pow_difficulty,
            "auth_required": limits.auth_required,
            # Nothing in this relay asks for a payment before it serves.
            "payment_required": False,
            "restricted_writes": announcement.restricted_writes or limits.min_pow_difficulty > 0,
            "created_at_lower_limit": limits.created_at_lower_limit,
            "created_at_upper_limit": limits.created_at_upper_limit,
            "default_limit": limits.default_limit,
        }
    )
    return msgspec.json.encode(_without_absent(fields))


def _without_absent(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
