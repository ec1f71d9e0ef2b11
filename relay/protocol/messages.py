"""The messages of the protocol: what a peer may say, and what the relay answers.

`parse_message` turns any bytes into a typed message or into a `Refusal`, which carries the answer
that the protocol prescribes for it. It has no third ending: no input of any shape raises.

An `EVENT` is recognised by its first bytes and decoded straight into an `Event` by one typed
msgspec decoder (0.7 µs for a short note). Whatever that decoder refuses, and every other verb, is
decoded as plain JSON and looked at step by step, so that the answer can name what is wrong.

Which answer a bad message gets (NIP-01, -42, -45, -77):

    EVENT, AUTH   OK false, where an id can be found to answer to; otherwise NOTICE
    REQ, COUNT    CLOSED, where the subscription id is a string; otherwise NOTICE
    NEG-…         NEG-ERR, where the id is a string; otherwise NOTICE
    anything else NOTICE
"""

import typing
from binascii import unhexlify
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from relay.protocol.event import Event
from relay.protocol.filters import Filter, InvalidFilter, parse_filter, quoted
from relay.protocol.hyperloglog import HyperLogLog, offset_of
from relay.protocol.limits import Limits

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
_decode_event: Final = msgspec.json.Decoder(tuple[Literal["EVENT"], Event]).decode

_LONGEST_ECHO: Final = 1024
"""An id longer than this many characters is not sent back; the answer is a NOTICE."""

_NO_LIMIT: Final = 1 << 53

UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for hostile JSON: malformed, not UTF-8, nested without end."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """The root of everything that a peer can have meant."""


class EventMessage(Message, frozen=True, gc=False):
    """`["EVENT", <event>]`: publish. The event's id and signature are not verified yet."""

    event: Event


class RequestMessage(Message, frozen=True, gc=False):
    """`["REQ", <id>, <filter>, …]`: send what is stored, then what comes."""

    subscription_id: str
    filters: tuple[Filter, ...]


class CloseMessage(Message, frozen=True, gc=False):
    """`["CLOSE", <id>]`: end a subscription."""

    subscription_id: str


class CountMessage(Message, frozen=True, gc=False):
    """`["COUNT", <id>, <filter>, …]`: how many events match (NIP-45)."""

    query_id: str
    filters: tuple[Filter, ...]
    offset: int | None = None
    """For HyperLogLog, where it can be given: see `relay.protocol.hyperloglog`."""


class AuthMessage(Message, frozen=True, gc=False):
    """`["AUTH", <event>]`: prove to be someone (NIP-42). Nothing is verified yet."""

    event: Event


class NegOpenMessage(Message, frozen=True, gc=False):
    """`["NEG-OPEN", <id>, <filter>, <message>]`: compare what we have with you (NIP-77)."""

    reconciliation_id: str
    filter: Filter
    payload: bytes
    """The first message of the Negentropy Protocol, not looked at yet."""


class NegMessage(Message, frozen=True, gc=False):
    """`["NEG-MSG", <id>, <message>]`: the next message (NIP-77)."""

    reconciliation_id: str
    payload: bytes


class NegCloseMessage(Message, frozen=True, gc=False):
    """`["NEG-CLOSE", <id>]`: no more is needed (NIP-77)."""

    reconciliation_id: str


class Refusal(Message, frozen=True, gc=False):
    """Not a message that can be acted on; `answer` is what to send instead.

    When that is the CLOSED for a REQ, `subscription_id` is what it is about; when it is a NEG-ERR,
    `reconciliation_id`.
    """

    answer: bytes
    subscription_id: str | None = None
    reconciliation_id: str | None = None


def parse_message(text: bytes, limits: Limits) -> Message:
    """Understand one message of a peer. Never raises, whatever `text` holds."""
    if text.startswith(b'["EVENT",'):
        try:
            return EventMessage(_decode_event(text)[1])
        except UNDECODABLE:
            pass  # find out below what to answer
    try:
        value = _decode(text)
    except UNDECODABLE as error:
        return Refusal(notice(f"invalid: the message is not JSON: {_cause(error)}"))
    if not isinstance(value, list) or not value:
        return Refusal(notice("invalid: a message must be a JSON array that begins with a verb"))
    verb = value[0]
    if verb == "EVENT":
        return _event_message(verb, value)
    if verb == "REQ" or verb == "COUNT":
        return _filter_message(verb, value, limits)
    if verb == "CLOSE":
        return _close_message(value, limits)
    if verb == "AUTH":
        return _event_message(verb, value)
    if isinstance(verb, str) and verb.startswith("NEG-"):
        return _negentropy_message(verb, value, limits)
    if isinstance(verb, str):
        return Refusal(notice(f"unsupported: unknown message {quoted(verb)}"))
    return Refusal(notice("invalid: a message must begin with a verb such as EVENT or REQ"))


def _event_message(verb: str, value: list[object]) -> Message:
    if len(value) != 2:
        return Refusal(notice(f"invalid: {verb} takes exactly one event"))
    try:
        event = msgspec.convert(value[1], Event)
    except msgspec.ValidationError as error:
        reason = f"invalid: {_field_error(error)}"
        event_id = value[1].get("id") if isinstance(value[1], dict) else None
        if isinstance(event_id, str) and len(event_id) <= _LONGEST_ECHO:
            return Refusal(ok(event_id, accepted=False, reason=reason))
        return Refusal(notice(reason))
    return AuthMessage(event) if verb == "AUTH" else EventMessage(event)


def _filter_message(verb: str, value: list[object], limits: Limits) -> Message:
    if len(value) < 2 or not isinstance(value[1], str):
        return Refusal(notice(f"invalid: {verb} needs a subscription id, a string"))
    subscription_id = value[1]
    problem = _subscription_id_problem(subscription_id, limits)
    if problem:
        return Refusal(_closed_or_notice(subscription_id, problem))
    # a count has no subscription
    ended = subscription_id if verb == "REQ" else None
    elements: Sequence[object] = value[2:]
    if len(elements) == 1 and isinstance(elements[0], list):
        elements = elements[0]  # the wrapped form: ["REQ", id, [filter, filter]]
    if not elements:
        reason = f"invalid: {verb} needs at least one filter"
        return Refusal(closed(subscription_id, reason), ended)
    if len(elements) > limits.max_filters:
        reason = f"invalid: {len(elements)} filters, at most {limits.max_filters} are allowed"
        return Refusal(closed(subscription_id, reason), ended)
    try:
        # equal filters need to be answered only once
        filters = tuple(dict.fromkeys([parse_filter(element, limits) for element in elements]))
    except InvalidFilter as error:
        return Refusal(closed(subscription_id, str(error)), ended)
    if verb == "COUNT":
        # each of them was an object, or it would have been refused
        offset = offset_of(typing.cast("dict[str, object]", elements[0]))
        return CountMessage(subscription_id, filters, offset if len(elements) == 1 else None)
    return RequestMessage(subscription_id, filters)


def _close_message(value: list[object], limits: Limits) -> Message:
    if len(value) != 2 or not isinstance(value[1], str):
        return Refusal(notice("invalid: CLOSE takes exactly one subscription id, a string"))
    problem = _subscription_id_problem(value[1], limits)
    return Refusal(notice(problem)) if problem else CloseMessage(value[1])


def _negentropy_message(verb: str, value: list[object], limits: Limits) -> Message:
    if len(value) < 2 or not isinstance(value[1], str):
        return Refusal(notice(f"invalid: {verb} needs an id, a string"))
    name = value[1]
    if len(name) > _LONGEST_ECHO:
        return Refusal(notice("invalid: the id is too long"))
    try:
        return _negentropy_parts(verb, name, value, limits)
    except (InvalidFilter, _InvalidNegentropy) as error:
        return Refusal(neg_error(name, str(error)), reconciliation_id=name)


def _negentropy_parts(verb: str, name: str, value: list[object], limits: Limits) -> Message:
    problem = _subscription_id_problem(name, limits)
    if problem:
        raise _InvalidNegentropy(problem)
    if verb == "NEG-OPEN":
        if len(value) != 4:
            raise _InvalidNegentropy("invalid: NEG-OPEN takes an id, one filter and a message")
        return NegOpenMessage(name, _negentropy_filter(value[2], limits), _payload(value[3]))
    if verb == "NEG-MSG":
        if len(value) != 3:
            raise _InvalidNegentropy("invalid: NEG-MSG takes an id and a message")
        return NegMessage(name, _payload(value[2]))
    if verb == "NEG-CLOSE":
        if len(value) != 2:
            raise _InvalidNegentropy("invalid: NEG-CLOSE takes exactly one id")
        return NegCloseMessage(name)
    raise _InvalidNegentropy(f"unsupported: unknown message {quoted(verb)}")


class _InvalidNegentropy(ValueError):
    """What is wrong with a NEG message, as the reason to answer."""


def _negentropy_filter(value: object, limits: Limits) -> Filter:
    if isinstance(value, list):
        # NDK sends the one filter of NIP-77 in an array, as it does those of a REQ
        if len(value) != 1:
            raise _InvalidNegentropy("unsupported: only one filter at a time can be reconciled")
        value = value[0]
    # it says which events are compared, not how many are sent
    unlimited = msgspec.structs.replace(limits, max_limit=_NO_LIMIT)
    filter_ = parse_filter(value, unlimited)
    if filter_.search is not None:
        # relays differ in what they find, so there is no set that both mean
        raise _InvalidNegentropy("unsupported: what a search finds cannot be reconciled")
    return filter_


def _payload(value: object) -> bytes:
    if isinstance(value, str) and value:
        try:
            return unhexlify(value)
        except ValueError:
            pass
    raise _InvalidNegentropy("invalid: the message must be a string of hex digits")


def _subscription_id_problem(subscription_id: str, limits: Limits) -> str | None:
    if 1 <= len(subscription_id) <= limits.max_subid_length:
        return None
    return f"invalid: a subscription id has 1 to {limits.max_subid_length} characters"


def _closed_or_notice(subscription_id: str, reason: str) -> bytes:
    if len(subscription_id) <= _LONGEST_ECHO:
        return closed(subscription_id, reason)
    return notice(reason)


def _cause(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return str(error)


def _field_error(error: msgspec.ValidationError) -> str:
    """Turn "Expected `int`, got `float` - at `$.kind`" into "event.kind: expected `int`, …"."""
    what, _, where = str(error).partition(" - at `$")
    return f"event{where.rstrip('`')}: {what[:1].lower()}{what[1:]}"


def event_prefix(subscription_id: str) -> bytes:
    """Return what precedes an event's JSON in an `EVENT` message; `]` follows it."""
    return b'["EVENT",' + _encode(subscription_id) + b","


def ok(event_id: str, *, accepted: bool, reason: str = "") -> bytes:
    """Return the `OK` for an event. A refusal's reason begins with a prefix such as `invalid:`."""
    return _encode(["OK", event_id, accepted, reason])


def ok_stored(event_id: str) -> bytes:
    """Return the plain `OK true`. The id is one that was verified, so it needs no escaping."""
    return b'["OK","%b",true,""]' % event_id.encode()


def eose(subscription_id: str, *, complete: bool | None) -> bytes:
    """Return `EOSE`; the hint (NIP-67) is given only when it is certain."""
    if complete is None:
        return _encode(["EOSE", subscription_id])
    return _encode(["EOSE", subscription_id, ["finish" if complete else "more"]])


def closed(subscription_id: str, reason: str) -> bytes:
    """Return `CLOSED`: the subscription is refused or ended by the relay."""
    return _encode(["CLOSED", subscription_id, reason])


def neg_message(reconciliation_id: str, payload: bytes) -> bytes:
    """Return a `NEG-MSG` (NIP-77)."""
    return _encode(["NEG-MSG", reconciliation_id, payload.hex()])


def neg_error(reconciliation_id: str, reason: str, most_records: int | None = None) -> bytes:
    """Return `NEG-ERR`: the reconciliation is refused or ended by the relay (NIP-77).

    `most_records` is how many may be compared, where a query is refused for having more.
    """
    answer: list[object] = ["NEG-ERR", reconciliation_id, reason]
    return _encode(answer if most_records is None else [*answer, most_records])


def notice(text: str) -> bytes:
    """Return a `NOTICE` for a human to read."""
    return _encode(["NOTICE", text])


def auth_challenge(challenge: str) -> bytes:
    """Return `AUTH` with the connection's challenge (NIP-42)."""
    return _encode(["AUTH", challenge])


def count(
    query_id: str, total: int, sketch: HyperLogLog | None = None, *, approximate: bool = False
) -> bytes:
    """Return the answer to a `COUNT` (NIP-45)."""
    answer: dict[str, object] = {"count": total}
    if approximate:
        answer["approximate"] = True
    if sketch is not None:
        answer["hll"] = sketch.hex()
    return _encode(["COUNT", query_id, answer])
