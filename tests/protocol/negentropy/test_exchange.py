"""Both roles of set reconciliation, against each other and against whatever a peer may send."""

import contextlib
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.protocol.negentropy.codec import FIRST, INFINITY, Bounds, MalformedMessage, varint
from relay.protocol.negentropy.exchange import SMALLEST_FRAME, Initiator, Round, respond
from relay.protocol.negentropy.vector import Vector, vector_of

Items = set[bytes]
SEED = random.Random(77)


def some_items(count: int, spread: int, seed: int) -> list[bytes]:
    """Return items of so many seconds; ids that share their beginnings, some of them."""
    made = random.Random(seed)
    return [
        (1_700_000_000 + made.randrange(spread)).to_bytes(8)
        + bytes(made.choice((0, 0, 20, 26)))
        + made.randbytes(32)
        for _ in range(count)
    ]


def reconciled(
    ours: Items, theirs: Items, frame: int = 0, their_frame: int = 0
) -> tuple[set[bytes], set[bytes], int]:
    """Return have, need and the number of rounds; check the frame sizes on the way."""
    initiator = Initiator(vector_of(ours), frame)
    vector = vector_of(theirs)
    message: bytes | None = initiator.begin()
    rounds = 0
    while message is not None:
        assert not frame or len(message) <= frame
        answer = respond(vector, message, their_frame)
        assert not their_frame or len(answer) <= their_frame
        message = initiator.receive(answer)
        rounds += 1
        assert rounds < 10_000, "it does not end"
    return initiator.have, initiator.need, rounds


def ids(items: Items) -> set[bytes]:
    return {item[8:] for item in items}


frames = st.sampled_from([0, SMALLEST_FRAME, 5_000, 60_000])


@given(
    st.integers(0, 600),
    st.sampled_from([1, 2, 50, 10_000]),
    st.sampled_from([(1, 1, 1), (0, 1, 9), (1, 0, 9), (1, 1, 98), (1, 0, 0), (0, 1, 0), (0, 0, 1)]),
    frames,
    frames,
    st.integers(0, 1 << 32),
)
@settings(max_examples=120, deadline=None)
@example(5_000, 1, (1, 1, 1), SMALLEST_FRAME, SMALLEST_FRAME, 1)
@example(20_000, 20_000, (1, 1, 998), SMALLEST_FRAME, SMALLEST_FRAME, 2)
@example(5_000, 3, (0, 1, 0), 0, SMALLEST_FRAME, 3)
@example(5_000, 3, (1, 0, 0), SMALLEST_FRAME, 0, 4)
def test_any_two_sets_reconcile_to_exactly_the_difference(
    count: int,
    spread: int,
    shares: tuple[int, int, int],
    frame: int,
    their_frame: int,
    seed: int,
) -> None:
    items = [item[:40] for item in some_items(count, spread, seed)]
    where = random.Random(seed).choices(("ours", "theirs", "both"), shares, k=len(items))
    sides = list(zip(items, where, strict=True))
    ours = {item for item, side in sides if side != "theirs"}
    theirs = {item for item, side in sides if side != "ours"}
    have, need, rounds = reconciled(ours, theirs, frame, their_frame)
    assert have == ids(ours) - ids(theirs)
    assert need == ids(theirs) - ids(ours)
    # a round divides by 16 until less than 32 are left; a full frame leaves some for the next
    depth = 2 + next(level for level in range(9) if 32 * 16**level > len(items)) // 2
    smallest = min([size for size in (frame, their_frame) if size] or [0])
    extra = 0 if not smallest else 4 + 3 * 600 * len(have | need) // smallest
    assert rounds <= depth + extra


def test_the_same_sets_are_one_round_without_a_word() -> None:
    items = {item[:40] for item in some_items(1_000, 100, 1)}
    initiator = Initiator(vector_of(items))
    answer = respond(vector_of(items), initiator.begin())
    assert answer == b"\x61"
    assert initiator.receive(answer) is None
    assert initiator.have == initiator.need == set()


def test_times_and_prefixes_are_encoded_as_the_text_says() -> None:
    bounds = Bounds()
    written = bounds.write((5).to_bytes(8)) + bounds.write((5).to_bytes(8) + b"\xab\xcd")
    written += bounds.write((200).to_bytes(8)) + bounds.write(INFINITY)
    assert written.hex() == "0600" + "0102abcd" + "814400" + "0000"
    assert [varint(number).hex() for number in (0, 127, 128, (1 << 64) - 1)] == [
        "00",
        "7f",
        "8100",
        "81ffffffffffffffff7f",
    ]


@pytest.mark.parametrize("version", [0x00, 0x60, 0x62, 0x6F, 0xFF])
def test_an_unknown_version_is_answered_by_the_one_that_is_spoken(version: int) -> None:
    assert respond(Vector(), bytes([version]) + b"\xff\xff") == b"\x61"
    with pytest.raises(MalformedMessage):
        Initiator(Vector()).receive(bytes([version]))


MALFORMED = {
    "": "nothing",
    "6180": "half a bound",
    "6100": "a bound without an id prefix",
    "61000500": "half an id prefix",
    "610021" + "00" * 33 + "00": "an id prefix of 33 bytes",
    "610000": "no mode",
    "61000003": "a mode that does not exist",
    "61000001": "no fingerprint",
    "61000001" + "00" * 15: "half a fingerprint",
    "61000002": "no number of ids",
    "6100000202" + "00" * 32: "one id of two",
    "6100000281ffffffffffffffff7f": "more ids than there are bytes on earth",
    "61" + "ff" * 10 + "000000": "a number of 71 bits",
    "6182ffffffffffffffff7f0000": "a number of 65 bits",
    "61" + "ff" * 200_000: "a number that never ends",
    "6102020102" + "00" + "01020101" + "00": "a bound below the one before it",
}


@pytest.mark.parametrize("message", MALFORMED, ids=lambda message: MALFORMED[message])
def test_malformed_messages_are_expected_by_both_sides(message: str) -> None:
    vector = vector_of([item[:40] for item in some_items(100, 3, 1)])
    with pytest.raises(MalformedMessage):
        respond(vector, bytes.fromhex(message), SMALLEST_FRAME)
    with pytest.raises(MalformedMessage):
        Initiator(vector, SMALLEST_FRAME).receive(bytes.fromhex(message))


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_answered_or_malformed(data: bytes, begun: bool) -> None:
    vector = vector_of([item[:40] for item in some_items(200, 5, 2)])
    message = b"\x61" + data if begun else data
    with contextlib.suppress(MalformedMessage):
        assert len(respond(vector, message, SMALLEST_FRAME)) <= SMALLEST_FRAME
    with contextlib.suppress(MalformedMessage):
        Initiator(vector, SMALLEST_FRAME).receive(message)


def test_times_beyond_64_bits_and_ranges_behind_infinity_hold_nothing() -> None:
    vector = vector_of([item[:40] for item in some_items(3, 5, 2)])
    far = bytes.fromhex("81ffffffffffffffff7f")
    message = b"\x61" + (far + b"\x00\x00") * 3 + b"\x00\x00\x02\x00"
    assert respond(vector, message).endswith(b"\x00\x00\x02\x00")


def test_what_is_left_over_never_looks_the_same_by_mistake() -> None:
    """A peer that sends the fingerprint of an empty range is told of what we have there."""
    full = vector_of([item[:40] for item in some_items(2_000, 2_000, 5)])
    end = full[1_999][:8]
    bounds = Bounds()
    # many ids first, so that there is no room for the answer to the second range
    message = b"\x61" + bounds.write(full[1_000][:8]) + b"\x02\x00"
    message += bounds.write(end) + b"\x01" + Vector().fingerprint(0, 0)
    room = (SMALLEST_FRAME - 200) // 32
    few = vector_of([*[full[n] for n in range(room - 1)], *[full[n] for n in range(1_000, 2_000)]])
    answer = respond(few, message, SMALLEST_FRAME)
    rest = [full[1_999]]
    assert vector_of(rest).fingerprint(0, 1) not in answer
    assert answer.endswith(few.fingerprint(room - 1, len(few)))


def test_a_message_is_answered_piece_by_piece() -> None:
    items = [item[:40] for item in some_items(40_000, 40_000, 7)]
    vector, other = vector_of(items), vector_of(items[::2])
    message = Initiator(other).begin()
    whole = respond(vector, message, 250_000)
    piecemeal = Round(vector, message, 250_000)
    pieces = 1
    while not piecemeal.step(lambda: True):
        pieces += 1
    assert piecemeal.output == whole
    assert pieces == 16


def test_the_keys_at_the_ends_hold_everything_between_them() -> None:
    vector = vector_of([item[:40] for item in some_items(10, 3, 1)])
    assert vector.lower_bound(FIRST) == 0
    assert vector.lower_bound(INFINITY) == 10
