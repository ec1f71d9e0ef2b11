"""What a session process and the writer process say to each other: msgpack in local frames.

    request   (now, kind, events, amount, terms)     kind: commit, sweep or index
    answer    (outcomes, amount, error)              outcomes: [(outcome, seq), …]

Answers come in the order of the requests.
"""

from typing import Final

import msgspec

from relay.store.api import Committed, Terms

COMMIT: Final = 0
SWEEP: Final = 1
INDEX: Final = 2
NO_SEARCH: Final = "--no-search"
"""The argument by which the writer process is told that nothing is indexed for search."""


class Request(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the session process asks for. `events` are canonical JSON, verified."""

    now: int
    kind: int
    events: list[bytes] = []
    amount: int = 0
    terms: Terms | None = None


class Answer(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the writer process did. `error` is set when the store failed: nothing was taken."""

    outcomes: list[Committed] = []
    amount: int = 0
    error: str | None = None


encode: Final = msgspec.msgpack.Encoder().encode
decode_request: Final = msgspec.msgpack.Decoder(Request).decode
decode_answer: Final = msgspec.msgpack.Decoder(Answer).decode
