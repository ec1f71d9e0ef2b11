"""What events mean to a store: addresses of versions, and what a deletion request names.

Shared by every store, so that they agree on the fine print:

* An *address* is `kind:pubkey:` of a replaceable event, `kind:pubkey:d` of an addressable one,
  exactly as `a` tags spell it (NIP-01). All versions of one thing share it.
* A deletion request (NIP-09) is read leniently: a tag that is malformed, or names another
  author's address, is passed over, and the others count.
* Whoever is *entitled* to an event may have it deleted: its author, and of a gift wrap, whose
  author is a random key, everybody whom it p-tags (NIP-59).
* A request to vanish (NIP-62) covers gift wraps up to its own time, as it does all else. Their
  times are tweaked into the past, so whatever was sent before the request is covered. So is, for
  about two days, some of what is sent later to somebody who has come back; its sender is told.
* An event that is *expired* counts as absent in every respect (an older version may take its
  place), so that it does not matter when it is swept away.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.protocol.event import (
    KIND_DELETION,
    KIND_GIFT_WRAP,
    KIND_VANISH,
    MAX_KIND,
    Event,
    KindClass,
    Record,
    identifier,
    is_hex64,
    kind_class,
)
from relay.protocol.filters import Filter
from relay.store.api import Committed, Outcome

UNDELETABLE: Final = frozenset({KIND_DELETION, KIND_VANISH})
"""Requests: a deletion request has no effect on them (NIP-09, NIP-62)."""

_REFUSED: Final = frozenset({Outcome.DELETED, Outcome.EXPIRED, Outcome.BURIED, Outcome.VANISHED})


class DeletionRequest(NamedTuple):
    """What a kind 5 event asks for: ids and addresses, in order, each once."""

    ids: tuple[str, ...]
    addresses: tuple[str, ...]


def address(event: Event) -> str | None:
    """Return the address that `event` is a version of; `None` for regular kinds."""
    match kind_class(event.kind):
        case KindClass.REPLACEABLE:
            return f"{event.kind}:{event.pubkey}:"
        case KindClass.ADDRESSABLE:
            return f"{event.kind}:{event.pubkey}:{identifier(event)}"
        case _:
            return None


def supersedes(event: Event, created_at: int, event_id: str) -> bool:
    """Tell whether `event` takes the place of the version with that time and id (NIP-01)."""
    if event.created_at != created_at:
        return event.created_at > created_at
    return event.id < event_id


def entitled(event: Event) -> tuple[str, ...]:
    """Return who may have `event` deleted, each once."""
    if event.kind != KIND_GIFT_WRAP:
        return (event.pubkey,)
    recipients = [
        tag[1] for tag in event.tags if len(tag) > 1 and tag[0] == "p" and is_hex64(tag[1])
    ]
    return tuple(dict.fromkeys([event.pubkey, *recipients]))


def covered(request: Event) -> tuple[Filter, Filter]:
    """Return the filters for all that a request to vanish is about: its author's, and wraps."""
    author = frozenset({request.pubkey})
    until = request.created_at
    return (
        Filter(authors=author, until=until),
        Filter(kinds=frozenset({KIND_GIFT_WRAP}), tags=(("p", author),), until=until),
    )


def all_alike(outcome: Outcome, records: Sequence[Record]) -> list[Committed]:
    """Return what a commit says that took nothing; see `EventWriter.commit`."""
    return [Committed(outcome, 0)] * max(1, len(records))


def spoilt(outcomes: Sequence[Outcome]) -> list[Committed] | None:
    """Return what becomes of a batch that is taken whole or not at all; `None`: it is taken."""
    if _REFUSED.isdisjoint(outcomes):
        return None
    return [
        Committed(outcome if outcome in _REFUSED else Outcome.CONFLICT, 0) for outcome in outcomes
    ]


def is_unfinished(outcomes: Sequence[Committed]) -> bool:
    """Tell whether a commit on terms is to be made again, as there is more to erase."""
    return bool(outcomes) and outcomes[0].outcome is Outcome.UNFINISHED


def deletion_request(event: Event) -> DeletionRequest | None:
    """Return what `event` asks to be deleted; `None` unless it is a kind 5 event."""
    if event.kind != KIND_DELETION:
        return None
    ids: dict[str, None] = {}
    addresses: dict[str, None] = {}
    for tag in event.tags:
        if len(tag) < 2:
            continue
        if tag[0] == "e" and is_hex64(tag[1]):
            ids[tag[1]] = None
        elif tag[0] == "a" and _is_own_address(tag[1], event.pubkey):
            addresses[tag[1]] = None
    return DeletionRequest(tuple(ids), tuple(addresses))


def _is_own_address(text: str, pubkey: str) -> bool:
    kind_text, colon, rest = text.partition(":")
    if not colon or not kind_text.isascii() or not kind_text.isdigit() or len(kind_text) > 5:
        return False
    kind = int(kind_text)
    # Only the spelling that `address` gives can meet a version.
    if str(kind) != kind_text or kind > MAX_KIND or not rest.startswith(f"{pubkey}:"):
        return False
    match kind_class(kind):
        case KindClass.REPLACEABLE:
            return len(rest) == len(pubkey) + 1
        case KindClass.ADDRESSABLE:
            return True
        case _:
            return False
