"""What events mean to a store: addresses of versions, and what a deletion request names.

Shared by every store, so that they agree on the fine print:

* An *address* is `kind:pubkey:` of a replaceable event, `kind:pubkey:d` of an addressable one,
  exactly as `a` tags spell it (NIP-01). All versions of one thing share it.
* A deletion request (NIP-09) is read leniently: a tag that is malformed, or names another
  author's address, is passed over, and the others count.
* An event that is *expired* counts as absent in every respect (an older version may take its
  place), so that it does not matter when it is swept away.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.protocol.event import (
    KIND_DELETION,
    MAX_KIND,
    Event,
    KindClass,
    Record,
    identifier,
    kind_class,
)
from relay.store.api import Committed, Outcome

_HEX64: Final = re.compile(r"[0-9a-f]{64}").fullmatch


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


def conflict(records: Sequence[Record]) -> list[Committed]:
    """Return what a commit says whose expectations fail; see `EventWriter.commit`."""
    return [Committed(Outcome.CONFLICT, 0)] * max(1, len(records))


def deletion_request(event: Event) -> DeletionRequest | None:
    """Return what `event` asks to be deleted; `None` unless it is a kind 5 event."""
    if event.kind != KIND_DELETION:
        return None
    ids: dict[str, None] = {}
    addresses: dict[str, None] = {}
    for tag in event.tags:
        if len(tag) < 2:
            continue
        if tag[0] == "e" and _HEX64(tag[1]):
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
