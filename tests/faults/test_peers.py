"""Peers that are broken, stuck or ill-meaning: they end, and the others notice nothing.

Each of these peers is a socket without a WebSocket library, which does what none would do. The
half-open ones are processes of their own, stopped: their kernel goes on to acknowledge, and nobody
answers.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
import trio

from relay.protocol.event import Event
from tests.corpus import event_message
from tests.faults.watching import bystanders, complaints, log, note, resident_bytes, until
from tests.served import ROOT, ServedRelay, client, served_relay
from tests.session import wire

SHORT: Final = """
[connections]
handshake_timeout = 1.0
ping_interval = 0.5
pong_timeout = 1.0
write_timeout = 1.0
"""
MANY: Final = 200
BIG: Final = 300_000
OUTBOX: Final = 1 << 20
"""The default bound of what waits for one peer."""
PAGE: Final = (512 << 10) + BIG
"""What may be read at once for one subscription: a page ends with the event that fills it."""
UNREAD: Final = OUTBOX + 3 * PAGE
"""What one subscription of a peer that does not read may cost: the outbox with the page that has
overfilled it, the chunk that the kernel took a part of, and the page that waits for room."""
SLACK: Final = 64 << 20
"""For what the C library and Python keep in pieces, and for everything else."""

HALF_OPEN: Final = """
import socket, sys
from tests.session import wire
peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
peer.sendall(wire.UPGRADE + wire.text('["REQ","s",{"kinds":[%s]}]' % sys.argv[2]))
received = b""
while b"EOSE" not in received:
    received += peer.recv(65536)
print("subscribed", flush=True)
while peer.recv(65536):
    pass
"""


class Peer:
    """A connection of bytes."""

    def __init__(self, relay: ServedRelay, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", relay.port))

    @classmethod
    def upgraded(cls, relay: ServedRelay, *, receive_buffer: int | None = None) -> "Peer":
        """Return one that has done the opening handshake."""
        peer = cls(relay, receive_buffer=receive_buffer)
        peer.send(wire.UPGRADE)
        head = b""
        while b"\r\n\r\n" not in head:
            head += peer.socket.recv(1)
        assert b" 101 " in head
        return peer

    def send(self, data: bytes) -> None:
        """Send all of it, or find that the relay has ended this connection."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def is_ended(self) -> bool:
        """Tell whether the relay has ended it; reads whatever has come."""
        try:
            while select.select([self.socket], [], [], 0)[0]:
                if not self.socket.recv(1 << 16):
                    return True
        except ConnectionError:
            return True
        return False

    def reset(self) -> None:
        """End it with an RST."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


@contextlib.contextmanager
def closing(peers: Sequence[Peer]) -> Iterator[None]:
    """Close the peers' sockets after a block."""
    try:
        yield
    finally:
        for peer in peers:
            peer.socket.close()


@contextlib.contextmanager
def half_open(relay: ServedRelay, kind: int) -> Iterator[None]:
    """Have a process subscribe to a kind, and stop it for the length of a block."""
    with subprocess.Popen(
        [sys.executable, "-c", HALF_OPEN, str(relay.port), str(kind)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"subscribed\n"
        os.kill(process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            process.kill()


def endings(relay: ServedRelay, word: str) -> int:
    """Return how many connections were ended for a reason with this word in it."""
    return sum(word in line["reason"] for line in log(relay, "connection closed"))


def big_notes(count: int) -> list[Event]:
    return [note(f"{time.monotonic_ns()} {number}", size=BIG) for number in range(count)]


# --- Half-open


async def test_a_half_open_peer_that_is_sent_nothing_is_ended_by_the_pong_timeout(
    tmp_path: Path,
) -> None:
    with served_relay(tmp_path, config=SHORT) as relay:
        async with bystanders(relay.url):
            with half_open(relay, 9):
                await until(lambda: endings(relay, "silent"))
        assert complaints(relay) == []
        assert endings(relay, "silent") == 1


@pytest.mark.slow
async def test_a_half_open_peer_that_is_sent_much_is_ended_by_the_write_timeout(
    tmp_path: Path,
) -> None:
    config = "[connections]\nping_interval = 60\npong_timeout = 60\nwrite_timeout = 1.0\n"
    with served_relay(tmp_path, config=config) as relay:
        async with bystanders(relay.url), client(relay.url) as publisher:
            with half_open(relay, 1):
                while not endings(relay, "stalled"):
                    await publisher.accept(*big_notes(4))
        assert complaints(relay) == []


# --- Abrupt ends


@pytest.mark.parametrize("end", ["reset", pytest.param("fin", marks=pytest.mark.slow)])
@pytest.mark.parametrize("when", ["in the request", "after the request", "in a frame", "mid-event"])
async def test_a_connection_that_ends_in_the_middle_ends_alone(
    tmp_path: Path, end: str, when: str
) -> None:
    event = note("never whole")
    frame = wire.text(event_message(event))
    with served_relay(tmp_path) as relay:
        async with bystanders(relay.url):
            for number in range(15):
                if when == "in the request":
                    peer = Peer(relay)
                    peer.send(wire.UPGRADE[: 5 * number])
                elif when == "after the request":
                    peer = Peer(relay)
                    peer.send(wire.UPGRADE)
                else:
                    peer = Peer.upgraded(relay)
                    cut = number % 14 if when == "in a frame" else len(frame) - 1 - number
                    peer.send(wire.text('["REQ","s",{}]') + frame[:cut])
                if end == "reset":
                    peer.reset()
                else:
                    peer.socket.close()
            async with client(relay.url) as reader:
                assert await reader.count({"ids": [event.id]}) == 0
        assert complaints(relay) == []


async def test_an_event_whose_publisher_resets_at_once_is_stored_and_delivered_whole_or_not_at_all(
    tmp_path: Path,
) -> None:
    events = [note(f"last words {number}") for number in range(60)]
    with served_relay(tmp_path) as relay:
        async with bystanders(relay.url), client(relay.url) as subscriber:
            live = await subscriber.subscribe({"ids": [event.id for event in events]})
            for number, event in enumerate(events):
                peer = Peer.upgraded(relay)
                peer.send(wire.text(event_message(event)))
                if number % 3 == 0:
                    await trio.sleep(0.002)
                peer.reset()
            # one that is in the log after all of them
            await subscriber.accept(note("the last"))
            await trio.sleep(0.3)
            async with client(relay.url) as reader:
                stored = await reader.request({"ids": [event.id for event in events]})
            assert all(event in events for event in stored)
            delivered = [await subscriber.event(live) for _ in stored]
            assert sorted(event.id for event in delivered) == sorted(event.id for event in stored)
            assert all(event in events for event in delivered)
            await subscriber.nothing(0.1)
        assert complaints(relay) == []


# --- Slowloris


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("nothing", marks=pytest.mark.slow),
        "half a head",
        pytest.param("byte by byte", marks=pytest.mark.slow),
        pytest.param("half a body", marks=pytest.mark.slow),
    ],
)
async def test_hundreds_that_never_finish_their_request_are_ended_by_the_deadline(
    tmp_path: Path, what: str
) -> None:
    start = {
        "nothing": b"",
        "half a head": wire.UPGRADE[:-2],
        "byte by byte": b"",
        "half a body": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf",
    }[what]
    with served_relay(tmp_path, config=SHORT) as relay:
        async with bystanders(relay.url) as others:
            peers = [Peer(relay) for _ in range(MANY)]
            with closing(peers):
                for peer in peers:
                    peer.send(start)
                waiting = list(peers)
                sent = 0
                with trio.fail_after(20):
                    while waiting:
                        if what == "byte by byte":
                            for peer in waiting:
                                peer.send(wire.UPGRADE[sent : sent + 1])
                            sent += 1
                        await trio.sleep(0.1)
                        waiting = [peer for peer in waiting if not peer.is_ended()]
                assert sent < len(wire.UPGRADE) - 1, "they had time to finish"
            await others.until_served()
        assert complaints(relay) == []


@pytest.mark.slow
async def test_hundreds_that_fall_silent_in_a_frame_are_ended_by_the_pong_timeout(
    tmp_path: Path,
) -> None:
    frame = wire.frame(wire.FIN | wire.TEXT, b"x" * 1_000)
    with served_relay(tmp_path, config=SHORT) as relay:
        async with bystanders(relay.url) as others:
            peers = [Peer.upgraded(relay) for _ in range(MANY)]
            with closing(peers):
                for number, peer in enumerate(peers):
                    peer.send(frame[: 1 + 5 * number])
                await until(lambda: all(peer.is_ended() for peer in peers))
            await others.until_served()
        await until(lambda: endings(relay, "silent") == MANY)
        assert complaints(relay) == []


@pytest.mark.slow
async def test_hundreds_that_send_a_frame_byte_by_byte_are_served_and_disturb_nobody(
    tmp_path: Path,
) -> None:
    # a slow sender lives, however slow it is: it holds a connection, and no more
    message = wire.text('["COUNT","c",{"kinds":[9]}]')
    with served_relay(tmp_path, config=SHORT) as relay:
        async with bystanders(relay.url) as others:
            peers = [Peer.upgraded(relay) for _ in range(MANY)]
            with closing(peers):
                for byte in message:
                    for peer in peers:
                        peer.send(bytes([byte]))
                    await trio.sleep(0.1)
                for peer in peers:
                    answer = b""
                    while b'["COUNT","c"' not in answer:
                        chunk = peer.socket.recv(1 << 16)
                        assert chunk, "a slow sender was ended"
                        answer += chunk
            await others.until_served()
        assert endings(relay, "silent") == 0
        assert complaints(relay) == []


# --- Peers that do not read


@pytest.mark.slow
async def test_peers_that_never_read_are_ended_and_the_others_get_everything(
    tmp_path: Path,
) -> None:
    count = 30
    config = "[connections]\nping_interval = 60\npong_timeout = 60\nwrite_timeout = 2.0\n"
    with served_relay(tmp_path, config=config) as relay:
        async with client(relay.url) as publisher:
            stored = big_notes(20)
            await publisher.accept(*stored)
            async with bystanders(relay.url), client(relay.url) as subscriber:
                live = await subscriber.subscribe({"kinds": [1], "limit": 0})
                before = resident_bytes(relay.pid)
                peers = [Peer.upgraded(relay, receive_buffer=4096) for _ in range(count)]
                with closing(peers):
                    for peer in peers:
                        # megabytes of stored events, and then what is new
                        peer.send(wire.text('["REQ","a",{"kinds":[1]}]'))
                        peer.send(wire.text('["REQ","b",{"kinds":[1],"limit":0}]'))
                    largest, new = 0, big_notes(20)
                    for event in new:
                        await publisher.accept(event)
                        largest = max(largest, resident_bytes(relay.pid))
                    await until(lambda: endings(relay, "stalled") == count)
                    largest = max(largest, resident_bytes(relay.pid))
                # the second subscription only follows what is new, which is in memory once
                bound = count * UNREAD + SLACK
                assert largest - before < bound, f"{(largest - before) >> 20} MB"
                received: list[str] = []
                wanted = [event.id for event in new]
                while len(received) < len(wanted):
                    event = await subscriber.event(live)
                    received += [event.id] if event.id in wanted else []
                assert received == wanted
        assert complaints(relay) == []


@pytest.mark.slow
async def test_memory_is_bounded_under_messages_that_never_end_and_answers_that_nobody_reads(
    tmp_path: Path,
) -> None:
    count = 150  # so many of each that the relay gives memory back when they have gone
    half = wire.frame(wire.FIN | wire.TEXT, b" " * 500_000)[:-1]
    config = "[connections]\nping_interval = 60\npong_timeout = 60\nwrite_timeout = 60\n"
    with served_relay(tmp_path, config=config) as relay:
        async with client(relay.url) as publisher:
            await publisher.accept(*big_notes(20))
            before = resident_bytes(relay.pid)
            senders = [Peer.upgraded(relay) for _ in range(count)]
            deaf = [Peer.upgraded(relay, receive_buffer=4096) for _ in range(count)]
            with closing([*senders, *deaf]):
                async with bystanders(relay.url) as others:
                    for sender, one in zip(senders, deaf, strict=True):
                        await trio.to_thread.run_sync(sender.send, half)
                        one.send(wire.text('["REQ","a",{"kinds":[1]}]'))
                    largest = 0
                    for _ in range(10):
                        await others.until_served(5)
                        largest = max(largest, resident_bytes(relay.pid))
                # a message of up to 512,000 bytes, twice while it grows
                bound = count * (2 * 512_000 + UNREAD) + SLACK
                assert largest - before < bound, f"{(largest - before) >> 20} MB"
                assert log(relay, "connection failed") == []
            async with bystanders(relay.url) as others:
                await others.until_served(20)
            await until(lambda: len(log(relay, "connection closed")) >= 2 * count)
            # what they took is given back
            await until(lambda: resident_bytes(relay.pid) - before < SLACK)
        assert complaints(relay) == []
