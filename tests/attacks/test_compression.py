"""Compression as a weapon: what inflates without end, breaks off, or refers to what never was.

The bounds are judged by a served process's own memory, since a client in the same process would
have to inflate, too.
"""

import os
import re
import zlib
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio

from relay.session.core import Capacity
from tests.attacks.peer import Ended, caller, deflating, peer, together
from tests.attacks.witness import unharmed, unharmed_process
from tests.served import ServedRelay, served_relay
from tests.session import wire
from tests.session.serving import serve
from tests.session.wire import CONTINUATION, FIN, PING, RSV1, TEXT, deflated, frame

MEBI: Final = 1 << 20
LIMIT: Final = 512_000
ATTACKERS: Final = 16


def bomb(mebibytes: int) -> bytes:
    """Return deflated blanks: a thousandth of what they inflate to."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    blanks = b" " * MEBI
    parts = [stream.compress(blanks) for _ in range(mebibytes)]
    return b"".join([*parts, stream.flush(zlib.Z_SYNC_FLUSH)])[:-4]


def resident(pid: int, what: str = "VmRSS") -> int:
    """Return how much memory a process has now (`VmRSS`) or had at most (`VmHWM`), in bytes."""
    [kibibytes] = re.findall(
        rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
    )
    return int(kibibytes) * 1024


def forget_the_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def blanks_of(length: int) -> bytes:
    """Return a message that is right, is so long, and has an answer."""
    message = b'["COUNT","blanks",{}]'
    return message + b" " * (length - len(message))


async def attack_by_bombs(relay: ServedRelay, charge: bytes) -> list[int | None]:
    """Send bombs in all shapes from many connections at once; return the codes that they got."""
    third = len(charge) // 3
    shapes = [
        frame(FIN | RSV1 | TEXT, charge),
        frame(FIN | RSV1 | wire.BINARY_DATA, charge),
        frame(RSV1 | TEXT, charge[:third])
        + frame(FIN | PING, b"amid")
        + frame(CONTINUATION, charge[third:])
        + frame(FIN | CONTINUATION),
        b"".join(
            [frame(RSV1 | TEXT, charge[:1])]
            + [frame(CONTINUATION, charge[at : at + 500]) for at in range(1, len(charge), 500)]
        ),
    ]
    codes: list[int | None] = []

    async def attack(shape: bytes) -> None:
        async with peer(relay.port, deflating()) as one:
            await one.say(shape)
            codes.append(await one.ended())

    await together(
        [partial(attack, shape) for shape in shapes * (ATTACKERS // 4)], at_once=ATTACKERS
    )
    return codes


@pytest.mark.parametrize("compression", ["shared", "per_connection"])
async def test_a_bomb_is_1009_and_memory_stays_bounded(tmp_path: Path, compression: str) -> None:
    config = f'[connections]\ncompression = "{compression}"\n'
    charge = bomb(256)
    assert len(charge) < LIMIT, "its frame would be refused for its own length"
    with served_relay(tmp_path, config=config) as relay:
        async with unharmed_process(relay):
            forget_the_peak(relay.pid)
            before = resident(relay.pid)
            codes = await attack_by_bombs(relay, charge)
            peak = resident(relay.pid, "VmHWM")
        assert codes == [1009] * ATTACKERS
        # each may have a message on the wire and one inflated, some copies of both, and no more:
        # all of them, inflated, would be 4 GiB
        assert peak - before < ATTACKERS * 4 * LIMIT


async def test_many_messages_that_inflate_to_just_the_limit_are_answered_one_by_one(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    message = frame(FIN | RSV1 | TEXT, deflated(blanks_of(LIMIT)))
    assert len(message) < LIMIT // 500
    count = 100

    async def attack() -> None:
        async with peer(serving.port, deflating()) as one:
            await one.say(message * count)
            for _ in range(count):
                await one.until("COUNT", "blanks")

    async with unharmed(serving):
        await together([attack] * 5)


def back_reference(distance: int) -> bytes:
    """Return a deflated block that copies three bytes from so far before its own beginning.

    One fixed-Huffman block (RFC 1951 section 3.2.6): a match of length 3, then the end.
    """
    codes = {1: (0, 0, 0), 24_577: (29, 13, 0)}
    code, extra_bits, extra = codes[distance]
    bits = "1" + "10" + "0000001" + f"{code:05b}" + "0" * extra_bits + "0000000"
    assert extra == 0
    return int(bits[::-1], 2).to_bytes((len(bits) + 7) // 8, "little")


GOOD: Final = deflated(b'["COUNT","good",{}]')
BROKEN: Final = {
    "noise": (1007, frame(FIN | RSV1 | TEXT, b"\xff" * 100)),
    "the reserved type of block": (1007, frame(FIN | RSV1 | TEXT, b"\x07")),
    "a stored block whose lengths differ": (
        1007,
        frame(FIN | RSV1 | TEXT, b"\0\x05\0\xff\xffhello"),
    ),
    "a reference to before the beginning": (1007, frame(FIN | RSV1 | TEXT, back_reference(1))),
    "a reference to far before it": (1007, frame(FIN | RSV1 | TEXT, back_reference(24_577))),
    "a change in the middle": (1007, frame(FIN | RSV1 | TEXT, GOOD[:5] + b"\xff\xff" + GOOD[7:])),
    "noise in the second fragment": (
        1007,
        frame(RSV1 | TEXT, GOOD[:5]) + frame(FIN | CONTINUATION, b"\xff" * 50),
    ),
    "what inflates to no UTF-8": (1007, frame(FIN | RSV1 | TEXT, deflated(b'["\xff"]'))),
    "final blocks without end": (1007, frame(FIN | RSV1 | TEXT, b"\x03\x00" * 10_000)),
    "the bit on a continuation": (
        1002,
        frame(RSV1 | TEXT, GOOD[:5]) + frame(FIN | RSV1 | CONTINUATION, GOOD[5:]),
    ),
    "the bit on a ping": (1002, frame(FIN | RSV1 | PING, deflated(b"x"))),
    "the bit on a close": (1002, frame(FIN | RSV1 | wire.CLOSE, deflated(b"\x03\xe8"))),
    "another reserved bit": (1002, frame(FIN | RSV1 | 0x20 | TEXT, GOOD)),
}


async def test_what_is_compressed_badly_ends_that_connection_with_the_right_code(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    codes: dict[str, int | None] = {}

    async def attack(name: str) -> None:
        async with peer(serving.port, deflating()) as one:
            await one.say(frame(FIN | RSV1 | TEXT, GOOD))
            assert (await one.until("COUNT"))[1] == "good"
            await one.say(BROKEN[name][1])
            codes[name] = await one.ended()

    async with unharmed(serving):
        await together([partial(attack, name) for name in BROKEN])
    assert codes == {name: code for name, (code, _) in BROKEN.items()}


async def test_what_is_compressed_without_an_agreement_is_refused(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    async with unharmed(serving), peer(serving.port) as one:
        await one.say(frame(FIN | RSV1 | TEXT, GOOD))
        assert await one.ended() == 1002


async def test_a_message_cut_short_waits_for_the_next_and_harms_no_other(
    nursery: trio.Nursery,
) -> None:
    """Half of what was compressed, whole as a frame, is bad JSON or bad data."""
    serving = await serve(nursery)

    async def attack(length: int) -> None:
        async with peer(serving.port, deflating()) as one:
            await one.say(frame(FIN | RSV1 | TEXT, GOOD[:length]))
            await one.until("AUTH")
            kind, said, *_ = await one.message()
            # the last byte may hold nothing but the end of what was said
            assert kind == "NOTICE" or (said == "good" and length > len(GOOD) - 3)
            await one.say(frame(FIN | RSV1 | TEXT, GOOD))
            await one.until("COUNT", "good")

    async def tolerant(length: int) -> None:
        try:
            await attack(length)
        except Ended as end:
            if end.code != 1007:
                raise

    async with unharmed(serving):
        await together([partial(tolerant, length) for length in range(1, len(GOOD))])


OFFERS: Final = {
    b"permessage-deflate; server_max_window_bits=8": False,
    b"permessage-deflate; server_max_window_bits=12": True,
    b"permessage-deflate; server_max_window_bits=16": False,
    b"permessage-deflate; server_max_window_bits=012": False,
    b"permessage-deflate; server_max_window_bits=-9": False,
    b"permessage-deflate; client_max_window_bits=8": True,
    b"permessage-deflate; client_max_window_bits": True,
    b"permessage-deflate; client_max_window_bits; client_max_window_bits": False,
    b"permessage-deflate; unknown=1": False,
    b"permessage-deflate; server_no_context_takeover=1": False,
    b"permessage-deflate;" * 300: False,
    b", ".join([b"permessage-deflate; unknown=1"] * 200 + [b"permessage-deflate"]): True,
    b"permessage-deflate-frame, x-webkit-deflate-frame": False,
    b'permessage-deflate; server_max_window_bits="12"': True,
    b'permessage-deflate; server_max_window_bits="1': False,
    b",,,;;;===": False,
    b"=" * 5000: False,
}


async def test_whatever_is_offered_the_connection_works(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    agreed: dict[bytes, bool] = {}

    async def attack(offer: bytes) -> None:
        async with peer(serving.port) as probe:
            await probe.alive()
        async with caller(serving.port) as one:
            head = await one.upgrade(deflating(offer))
            agreed[offer] = b"permessage-deflate" in head
            await one.alive()
            if agreed[offer]:
                await one.say(frame(FIN | RSV1 | TEXT, GOOD))
                await one.until("COUNT", "good")

    async with unharmed(serving):
        await together([partial(attack, offer) for offer in OFFERS])
    assert agreed == OFFERS


async def test_a_peer_that_does_not_read_what_was_compressed_for_it_costs_a_bound(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery, capacity=Capacity(outbox_bytes=65_536))
    noise = os.urandom(LIMIT // 3).hex().encode()
    async with unharmed(serving), peer(serving.port, deflating()) as one:
        await one.send(["REQ", "all", {}])
        # answered, and never read; TCP pushes back before memory is full
        refused = frame(FIN | RSV1 | TEXT, deflated(b'["NEG-OPEN","%b"]' % noise[:1000]))
        with trio.move_on_after(1):
            while True:
                await one.stream.send_all(refused * 100)
        for connection in serving.server._connections:
            assert connection.writer.queued_bytes < 1 << 20


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_bombs_again_and_again_leave_the_memory_where_it_was(
    tmp_path: Path, scale: float
) -> None:
    charge = bomb(256)
    with served_relay(tmp_path) as relay:
        async with unharmed_process(relay):
            await attack_by_bombs(relay, charge)
            before = resident(relay.pid)
            for _ in range(max(2, int(30 * scale))):
                assert await attack_by_bombs(relay, charge) == [1009] * ATTACKERS
            assert resident(relay.pid) - before < 2 * ATTACKERS * LIMIT
