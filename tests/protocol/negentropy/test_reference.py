"""Conversations of the reference implementation, which ours must repeat byte by byte.

`tests/vectors/negentropy.json` holds what two processes of the reference implementation (C++, at
commit 929c591 of hoytech/negentropy) said to each other: each was given the items of a recipe by
the commands of its test harness (`item`, `seal`, `initiate`, `msg`), with the frame size in
`FRAMESIZELIMIT`. Recorded are the SHA-256 of each message, in turns, the first messages of short
conversations in full, and how many ids were found. Its JavaScript implementation says the same.

A recipe is (number of items, seconds that they are spread over, one in so many for one side only).
Item n has the id sha256("n"), and its second is taken from the same hash.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from relay.protocol.negentropy.exchange import Initiator, respond
from relay.protocol.negentropy.vector import vector_of

VECTORS: Final = Path(__file__).parents[2] / "vectors" / "negentropy.json"
CONVERSATIONS: Final[list[dict[str, Any]]] = json.loads(VECTORS.read_bytes())


def items_of(count: int, spread: int, rare: int) -> tuple[list[bytes], list[bytes]]:
    """Return the items of both sides."""
    ours, theirs = [], []
    for number in range(count):
        identity = sha256(str(number).encode()).digest()
        item = (1_700_000_000 + int.from_bytes(identity[:4]) % spread).to_bytes(8) + identity
        side = number % rare if rare else -1
        if side != 0:
            ours.append(item)
        if side != 1:
            theirs.append(item)
    return ours, theirs


@pytest.mark.parametrize(
    "conversation", CONVERSATIONS, ids=lambda one: f"{one['recipe']} {one['frame_sizes']}"
)
def test_every_message_is_the_reference_s(conversation: dict[str, Any]) -> None:
    ours, theirs = items_of(*conversation["recipe"])
    our_size, their_size = conversation["frame_sizes"]
    initiator = Initiator(vector_of(ours), our_size)
    vector = vector_of(theirs)
    said: list[bytes] = []
    message: bytes | None = initiator.begin()
    while message is not None:
        said += [message, respond(vector, message, their_size)]
        message = initiator.receive(said[-1])
    for hexadecimal, mine in zip(conversation["messages"], said, strict=False):
        assert mine.hex() == hexadecimal
    assert [sha256(mine).hexdigest() for mine in said] == conversation["hashes"]
    assert [len(initiator.have), len(initiator.need)] == conversation["found"]


def test_the_conversations_are_of_every_kind() -> None:
    assert {len(one["hashes"]) for one in CONVERSATIONS} >= {2, 4}
    assert any(any(one["frame_sizes"]) and len(one["hashes"]) > 20 for one in CONVERSATIONS)
