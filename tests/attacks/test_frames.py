"""Frames of every wrong kind (RFC 6455), each sent by a peer of its own beside honest ones."""

from functools import partial
from typing import Final

import pytest
import trio

from relay.protocol.limits import Limits
from relay.session.core import Timing
from tests.attacks.peer import Frame, Peer, peer, together
from tests.attacks.witness import HONEST, unharmed
from tests.session import wire
from tests.session.serving import serve
from tests.session.wire import BINARY_DATA, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, frame

MESSAGE: Final = b'["CLOSE","nothing"]'
"""A message that is right, and has no answer."""
LIMITS: Final = Limits(max_message_length=4096)
TINY: Final = 20_000

VIOLATIONS: Final = {
    "a continuation of nothing": (1002, frame(FIN | CONTINUATION, MESSAGE)),
    "an unmasked message": (1002, frame(FIN | TEXT, MESSAGE, mask=None)),
    "an unmasked ping": (1002, frame(FIN | PING, mask=None)),
    "a fragmented ping": (1002, frame(PING, b"x") + frame(FIN | CONTINUATION, b"x")),
    "a fragmented close": (1002, frame(CLOSE, b"\x03\xe8")),
    "an oversized ping": (1002, frame(FIN | PING, b"x" * 126)),
    "an oversized pong": (1002, frame(FIN | PONG, b"x" * 126)),
    "an oversized close": (1002, frame(FIN | CLOSE, b"\x03\xe8" + b"x" * 124)),
    "a text within a fragmented text": (1002, frame(TEXT, b"[") + frame(FIN | TEXT, MESSAGE)),
    "a binary within a fragmented text": (1002, frame(TEXT, b"[") + frame(FIN | BINARY_DATA, b"x")),
    "a length with the high bit": (1002, frame(FIN | TEXT, length=1 << 63, length_bytes=8)),
    "all bits of a length": (1002, frame(FIN | TEXT, length=(1 << 64) - 1, length_bytes=8)),
    "a length that is not minimal in 16 bits": (1002, frame(FIN | TEXT, MESSAGE, length_bytes=2)),
    "a length that is not minimal in 64 bits": (1002, frame(FIN | TEXT, MESSAGE, length_bytes=8)),
    "a ping's length that is not minimal": (1002, frame(FIN | PING, b"x", length_bytes=2)),
    "text that is not UTF-8": (1007, frame(FIN | TEXT, b'["CLOSE","\xff"]')),
    "text that is UTF-8 cut short": (1007, frame(FIN | TEXT, '["ä'.encode()[:-1])),
    "a surrogate in UTF-8": (1007, frame(FIN | TEXT, b'["\xed\xa0\x80"]')),
    "an overlong sequence": (1007, frame(FIN | TEXT, b'["\xc0\xaf"]')),
    "text that is not UTF-8 across fragments": (
        1007,
        frame(TEXT, b'["\xc3') + frame(CONTINUATION, b"") + frame(FIN | CONTINUATION, b'("]'),
    ),
    "a character that its last fragment leaves open": (
        1007,
        frame(TEXT, b'["\xf0\x9f') + frame(FIN | CONTINUATION, b"\x98"),
    ),
    "a frame beyond the limit": (1009, frame(FIN | TEXT, length=4097, length_bytes=2)),
    "a frame far beyond the limit": (1009, frame(FIN | TEXT, length=1 << 40, length_bytes=8)),
    "a binary beyond the limit": (1009, frame(FIN | BINARY_DATA, length=1 << 40, length_bytes=8)),
    "fragments beyond the limit": (
        1009,
        frame(TEXT, b"x" * 4000) + frame(CONTINUATION, b"x" * 90) + frame(CONTINUATION, b"x" * 7),
    ),
    "a close of one byte": (1002, frame(FIN | CLOSE, b"\x03")),
    "a close whose reason is not UTF-8": (1007, frame(FIN | CLOSE, b"\x03\xe8\xff")),
    **{
        f"a close with the code {code}": (1002, wire.close(code))
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    **{
        f"a close with the code {code}, which is none": (code, wire.close(code, "bye"))
        for code in (1000, 1001, 1002, 1003, 1007, 1011, 3000, 4999)
    },
    "a close, and more behind it": (1000, wire.close(1000) + wire.text(MESSAGE) * 100),
    "a close, and nonsense behind it": (1000, wire.close(1000) + b"\xff" * 10_000),
    "two closes": (1000, wire.close(1000) + wire.close(1001)),
    "a close within a fragmented text": (1000, frame(TEXT, b'["CLO') + wire.close(1000)),
    "a violation, and an attack behind it": (
        1002,
        frame(FIN | 0x3) + wire.text('["REQ","late",{}]') * 500,
    ),
}


async def test_what_breaks_the_protocol_is_closed_with_the_right_code(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery, limits=LIMITS)
    codes: dict[str, int | None] = {}

    async def attack(name: str) -> None:
        async with peer(serving.port) as one:
            await one.alive()
            await one.say(VIOLATIONS[name][1])
            codes[name] = await one.ended()
            assert not any(message[0] == "EOSE" for message in one.heard), "went on after the end"

    async with unharmed(serving):
        await together([partial(attack, name) for name in VIOLATIONS])
    assert codes == {name: code for name, (code, _) in VIOLATIONS.items()}


def due(first: int, *, masked: bool) -> int | str:
    """Say what RFC 6455 section 5 prescribes for a first frame that begins with this byte."""
    opcode = first & 0xF
    if not masked or first & 0x70 or opcode not in (TEXT, BINARY_DATA, PING, PONG, CLOSE):
        return 1002
    if opcode >= CLOSE and not first & FIN:
        return 1002
    if opcode == CLOSE:
        return 1000
    return "pong" if opcode == PING else "goes on"


async def test_every_first_byte_gets_what_the_rfc_prescribes(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    answers: dict[tuple[int, bool], int | str | None] = {}

    async def attack(first: int, masked: bool) -> None:
        payload = b"\x03\xe8" if first & 0xF == CLOSE else b"x"
        async with peer(serving.port) as one:
            await one.say(frame(first, payload, mask=b"mask" if masked else None))
            if due(first, masked=masked) == "goes on":
                if not first & FIN:
                    await one.say(frame(FIN | CONTINUATION, b"y"))
                await one.alive()
                answers[first, masked] = "goes on"
            elif due(first, masked=masked) == "pong":
                while (answer := await one.frame()).opcode == TEXT:
                    pass
                assert answer == Frame(PONG, b"x")
                answers[first, masked] = "pong"
            else:
                answers[first, masked] = await one.ended()

    everything = [(first, masked) for first in range(256) for masked in (True, False)]
    async with unharmed(serving):
        await together([partial(attack, *one) for one in everything])
    assert answers == {(first, masked): due(first, masked=masked) for first, masked in everything}


async def test_a_flood_of_pings_is_answered_by_the_latest_and_holds_nobody_up(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    async with unharmed(serving), peer(serving.port) as one:
        for start in range(0, TINY, 1000):
            numbers = [b"%d" % number for number in range(start, start + 1000)]
            await one.say(*[frame(FIN | PING, number) for number in numbers])
        pongs: list[bytes] = []
        while not pongs or pongs[-1] != b"%d" % (TINY - 1):
            answer = await one.frame()
            if answer.opcode == PONG:
                pongs.append(answer.payload)
        assert pongs == sorted(pongs, key=int)
        await one.alive()


async def test_a_flood_of_pongs_nobody_asked_for_is_passed_over(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    async with unharmed(serving), peer(serving.port) as one:
        for _ in range(TINY // 1000):
            await one.say(frame(FIN | PONG, b"x" * 125) * 1000)
        await one.alive()
        assert all(message[0] in ("AUTH", "COUNT") for message in one.heard)


async def test_a_message_of_very_many_fragments_is_one_message(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    message = b'["COUNT","in pieces",{}' + b" " * TINY + b"]"
    async with unharmed(serving), peer(serving.port) as one:
        pieces = [frame(CONTINUATION, message[at : at + 1]) for at in range(1, len(message))]
        # a fragment may be empty, and there may be a ping between any two
        pieces[::100] = [frame(CONTINUATION) + frame(FIN | PING) + one for one in pieces[::100]]
        await one.say(frame(TEXT, message[:1]))
        for start in range(0, len(pieces), 1000):
            await one.say(*pieces[start : start + 1000])
        await one.say(frame(FIN | CONTINUATION))
        assert (await one.until("COUNT"))[1] == "in pieces"


async def test_fragments_without_end_and_without_content_cost_only_their_sender(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    async with unharmed(serving), peer(serving.port) as one:
        await one.say(frame(TEXT, b'["COUNT","at last",{}]'))
        for _ in range(TINY // 1000):
            await one.say(frame(CONTINUATION) * 1000)
        await one.say(frame(FIN | CONTINUATION))
        assert (await one.until("COUNT"))[1] == "at last"


HALVES: Final = {
    "one byte": b"\x81",
    "half a header": b"\x81\xfe\x01",
    "a header without its mask": b"\x81\xfe\x01\x00ma",
    "half a frame": frame(FIN | TEXT, MESSAGE)[:-5],
    "half of the largest frame": frame(FIN | TEXT, b"x" * 512_000)[:256_000],
    "half a ping": frame(FIN | PING, b"x" * 100)[:50],
    "half a close": wire.close(1000)[:-1],
    "half a message": frame(TEXT, b'["COUNT"'),
    "half a character": frame(TEXT, b'["\xf0\x9f'),
    "nothing": b"",
}


async def test_half_a_frame_cannot_be_held_for_ever(nursery: trio.Nursery) -> None:
    timing = Timing(ping_interval=0.3, pong_timeout=0.3)
    serving = await serve(nursery, timing=timing)

    async def attack(half: bytes) -> None:
        async with peer(serving.port) as one:
            await one.say(half)
            # a peer that has begun a frame cannot answer the ping with another
            assert await one.ended() is None

    async with unharmed(serving):
        await together([partial(attack, half) for half in HALVES.values()])
        await serving.until(open_connections=HONEST)


async def drip(one: Peer, data: bytes) -> None:
    for at in range(len(data)):
        await one.say(data[at : at + 1])
        await trio.lowlevel.checkpoint()


async def test_a_conversation_byte_by_byte_is_a_conversation(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    data = (
        frame(FIN | PING, b"ping")
        + frame(TEXT, b'["COUNT","a"')
        + frame(FIN | PONG)
        + frame(FIN | CONTINUATION, b",{}]")
        + wire.text('["COUNT","b",{}]' + " " * 200)
        + wire.close(1000)
    )
    async with unharmed(serving), peer(serving.port) as one:
        await drip(one, data)
        assert await one.ended() == 1000
        assert [message[1] for message in one.heard if message[0] == "COUNT"] == ["a", "b"]


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_million_tiny_fragments_hold_nobody_up(nursery: trio.Nursery, scale: float) -> None:
    serving = await serve(nursery)
    rounds = max(20, int(1000 * scale))

    async def attack(fragment: bytes) -> None:
        async with peer(serving.port) as one:
            for _ in range(rounds // 100 + 1):
                await one.say(frame(TEXT, b'["COUNT","x",{}]'))
                for _ in range(min(rounds, 100)):
                    await one.say(fragment * 1000)
                await one.say(frame(FIN | CONTINUATION))
                await one.until("COUNT", "x")

    async with unharmed(serving):
        await together(
            [partial(attack, frame(CONTINUATION, b" ")), partial(attack, frame(CONTINUATION))]
        )
