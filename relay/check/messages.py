"""What a relay says, decoded for a client. An event is known by its id; the rest is skipped."""

from typing import Final, Literal

import msgspec

from relay.protocol.messages import UNDECODABLE


class _Identified(msgspec.Struct, gc=False):
    id: str


_decode_event: Final = msgspec.json.Decoder(tuple[Literal["EVENT"], str, _Identified]).decode
_decode: Final = msgspec.json.Decoder().decode


class EventArrived(msgspec.Struct, frozen=True, gc=False):
    """`["EVENT", <subscription>, <event>]`."""

    subscription: str
    event_id: str


class Answered(msgspec.Struct, frozen=True, gc=False):
    """`["OK", <event id>, <accepted>, <reason>]`."""

    event_id: str
    accepted: bool
    reason: str


class StoredEnded(msgspec.Struct, frozen=True, gc=False):
    """`["EOSE", <subscription>]`."""

    subscription: str


class SubscriptionClosed(msgspec.Struct, frozen=True, gc=False):
    """`["CLOSED", <subscription>, <reason>]`."""

    subscription: str
    reason: str


class Notice(msgspec.Struct, frozen=True, gc=False):
    """`["NOTICE", <text>]`."""

    text: str


class Other(msgspec.Struct, frozen=True, gc=False):
    """Anything else. `is_known` says whether it is a message of the protocol at all."""

    text: str
    is_known: bool


Said = EventArrived | Answered | StoredEnded | SubscriptionClosed | Notice | Other

_SHOWN: Final = 200


def understand(message: bytes) -> Said:
    """Return what the relay said. Never raises, whatever `message` holds."""
    if message.startswith(b'["EVENT"'):
        try:
            _, subscription, event = _decode_event(message)
        except UNDECODABLE:
            pass
        else:
            return EventArrived(subscription, event.id)
    try:
        value = _decode(message)
    except UNDECODABLE:
        value = None
    match value:
        case ["OK", str(event_id), bool(accepted), *rest]:
            return Answered(event_id, accepted, _text(rest))
        case ["EVENT", str(subscription), {"id": str(event_id)}]:
            return EventArrived(subscription, event_id)
        case ["EOSE", str(subscription), *_]:
            return StoredEnded(subscription)
        case ["CLOSED", str(subscription), *rest]:
            return SubscriptionClosed(subscription, _text(rest))
        case ["NOTICE", *rest]:
            return Notice(_text(rest))
    shown = message[:_SHOWN].decode(errors="replace")
    return Other(shown, is_known=isinstance(value, list) and value[:1] in (["AUTH"], ["COUNT"]))


def _text(rest: list[object]) -> str:
    return rest[0] if rest and isinstance(rest[0], str) else ""
