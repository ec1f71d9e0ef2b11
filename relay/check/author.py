"""Whoever publishes in a check: a key of this run only, so that all its events are ours."""

import os
import time

import msgspec

from relay.protocol.event import KindClass, canonical_json, kind_class
from relay.protocol.identity import Identity


class Author:
    """Signs the events of one run, of one kind."""

    def __init__(self, kind: int) -> None:
        self._kind = kind
        self._identity = Identity.fresh()
        self.pubkey = self._identity.pubkey
        self.run = os.urandom(8).hex()
        """The run's id, which stands in each event's content."""
        self._is_addressable = kind_class(kind) is KindClass.ADDRESSABLE

    def event(self, number: int) -> tuple[str, bytes]:
        """Return an event's id and the message that publishes it."""
        # each version of an addressable event would replace the one before
        tags = (("d", f"{self.run} {number}"),) if self._is_addressable else ()
        content = f"relay check, run {self.run}, event {number}"
        event = self._identity.sign(self._kind, int(time.time()), tags, content)
        return event.id, b'["EVENT",' + canonical_json(event) + b"]"

    def filters(self) -> bytes:
        """Return the filter that only events of this run pass, as JSON."""
        return msgspec.json.encode({"authors": [self.pubkey], "kinds": [self._kind]})


def kind_problem(kind: int) -> str | None:
    """Return why events of `kind` cannot be counted; `None` if they can."""
    if kind_class(kind) is KindClass.REPLACEABLE:
        return (
            f"kind {kind} is replaceable: each event takes the place of the one before, so a relay"
            " need not deliver them all"
        )
    return None
