r"""The event: its wire form, its id, its kind classes (NIP-01), and what its tags ask of a relay.

Everything a relay does with an event starts from one decode: `decode_event` gives a typed, frozen
`Event`, and `Record` pairs it with its canonical JSON, which is the only form that is stored and
sent. Because the JSON is always written anew from the typed event, duplicate keys, unknown fields
and odd white space of a publisher never reach a reader.

The id hashes the compact JSON array `[0,pubkey,created_at,kind,tags,content]`. msgspec writes
exactly what deployed clients write: the seven short escapes of NIP-01, `\u00xx` for the other
control characters (as JavaScript's `JSON.stringify`), everything else verbatim.
"""

import enum
import re
import string
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from hashlib import sha256
from typing import Annotated, Final, NamedTuple

import msgspec

MAX_TIMESTAMP: Final = (1 << 34) - 1
"""The largest `created_at` (seconds) that stores can order by: the year 2514."""

KIND_METADATA: Final = 0
KIND_CONTACTS: Final = 3
KIND_DELETION: Final = 5
KIND_REPOST: Final = 6
KIND_GENERIC_REPOST: Final = 16
KIND_VANISH: Final = 62
"""A request to vanish: everything by its author is to go (NIP-62)."""
KIND_GIFT_WRAP: Final = 1059
KIND_AUTH: Final = 22242
REMOVING_KINDS: Final = frozenset({KIND_DELETION, KIND_VANISH})
"""Requests that other events be removed: what was stored before them may be gone behind them."""
MAX_KIND: Final = 65535

Tag = tuple[str, ...]

is_hex64: Final = re.compile(r"[0-9a-f]{64}").fullmatch
"""Tells whether a text is written as ids and public keys are (NIP-01): 64 lowercase digits."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event as NIP-01 defines it. The order of the fields is that of the canonical JSON.

    Types and ranges are checked while decoding; whether the id and the signature are right is the
    business of `relay.protocol.verify`.
    """

    id: Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
    pubkey: Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
    created_at: Annotated[int, msgspec.Meta(ge=0, le=MAX_TIMESTAMP)]
    kind: Annotated[int, msgspec.Meta(ge=0, le=MAX_KIND)]
    tags: tuple[Annotated[tuple[str, ...], msgspec.Meta(min_length=1)], ...]
    content: str
    sig: Annotated[str, msgspec.Meta(min_length=128, max_length=128)]


class Record(NamedTuple):
    """An event together with its canonical JSON, the form that is stored and sent."""

    event: Event
    raw: bytes


class KindClass(enum.Enum):
    """How a relay keeps events of a kind (NIP-01, "Kinds")."""

    REGULAR = "regular"
    REPLACEABLE = "replaceable"
    EPHEMERAL = "ephemeral"
    ADDRESSABLE = "addressable"


_EXPIRATION_TAG: Final = b'["expiration","'
_LETTERS: Final = frozenset(string.ascii_letters)

_AFTER_PUBKEY: Final = 147
_CREATED_AT: Final = 162
_KIND_FIELD: Final = b',"kind":'

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def kind_class(kind: int) -> KindClass:
    """Return how events of `kind` are kept."""
    if 10000 <= kind < 20000 or kind in (KIND_METADATA, KIND_CONTACTS):
        return KindClass.REPLACEABLE
    if 20000 <= kind < 30000:
        return KindClass.EPHEMERAL
    if 30000 <= kind < 40000:
        return KindClass.ADDRESSABLE
    return KindClass.REGULAR


def is_ephemeral(kind: int) -> bool:
    """Tell whether events of `kind` are delivered but never stored."""
    return 20000 <= kind < 30000


def decode_event(raw: bytes | str) -> Event:
    """Decode one event's JSON.

    Raises `msgspec.MsgspecError` for anything that is not an event, `UnicodeDecodeError` for
    invalid UTF-8 and `RecursionError` for nesting without end.
    """
    return _decoder.decode(raw)


def canonical_json(event: Event) -> bytes:
    """Return the event's JSON as it is stored and sent: compact UTF-8, fields in NIP-01's order."""
    return _encoder.encode(event)


def kind_digits(raw: bytes) -> bytes:
    """Return the kind, as decimal digits, of canonical JSON that is not to be decoded."""
    start = raw.index(_KIND_FIELD, _AFTER_PUBKEY) + len(_KIND_FIELD)
    return raw[start : raw.index(b",", start)]


def row_of_kinds(kinds: AbstractSet[int]) -> Callable[[bytes], bool]:
    """Return a function that tells whether canonical JSON is that of an event of these kinds."""
    wanted = "|".join(map(str, sorted(kinds))) or "none"
    # 0.3 µs; to cut the kind out and look it up is 0.5
    match = re.compile(rf'[0-9]+,"kind":(?:{wanted}),'.encode()).match
    return lambda raw: match(raw, _CREATED_AT) is not None


def record(event: Event) -> Record:
    """Pair `event` with its canonical JSON."""
    return Record(event, _encoder.encode(event))


def id_bytes(event: Event) -> bytes:
    """Return the bytes whose SHA-256 is the event's id (NIP-01, "Events and signatures")."""
    return _encoder.encode(
        (0, event.pubkey, event.created_at, event.kind, event.tags, event.content)
    )


def computed_id(event: Event) -> str:
    """Return the id that the event's other fields determine, as lowercase hex."""
    return sha256(id_bytes(event)).hexdigest()


def first_value(event: Event, name: str) -> str | None:
    """Return the first value of the first tag called `name`; `None` where there is none."""
    for tag in event.tags:
        if tag[0] == name and len(tag) > 1:
            return tag[1]
    return None


def identifier(event: Event) -> str:
    """Return the `d` value of an addressable event; a missing one is the empty string."""
    for tag in event.tags:
        if tag[0] == "d":
            return tag[1] if len(tag) > 1 else ""
    return ""


def expiration(event: Event) -> int | None:
    """Return when the event expires, in Unix seconds (NIP-40).

    `None` where no tag says so; a value that is no number in range is ignored, as if absent.
    """
    value = first_value(event, "expiration")
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 20:
        return None
    return min(int(value), MAX_TIMESTAMP)


def has_expired(raw: bytes, now: int) -> bool:
    """Tell whether the event with this canonical JSON has expired at `now` (NIP-40).

    50 ns for an event without such a tag.
    """
    if _EXPIRATION_TAG not in raw:
        return False
    expires = expiration(decode_event(raw))
    return expires is not None and expires <= now


def is_protected(event: Event) -> bool:
    """Tell whether only its author may publish this event (NIP-70: a `["-"]` tag)."""
    return ("-",) in event.tags


def committed_target(event: Event) -> int | None:
    """Return the difficulty that the nonce tag commits to (NIP-13); `None` where it says none."""
    for tag in event.tags:
        if tag[0] == "nonce":
            target = tag[2] if len(tag) > 2 else ""
            is_number = target.isascii() and target.isdigit() and len(target) <= 3
            return int(target) if is_number else None
    return None


def tag_keys(event: Event) -> frozenset[str]:
    """Return letter + value of every indexed tag: what `#x` filters are matched against.

    Indexed are tags with one ASCII letter for a name, by their first value (NIP-01, "Tags").
    """
    return frozenset([tag[0] + tag[1] for tag in event.tags if len(tag) > 1 and tag[0] in _LETTERS])
