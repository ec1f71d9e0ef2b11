"""What one signature check and one small send cost on this machine, now.

Figures of two machines cannot be compared, and those of one machine drift with its other guests.
Expressed in these units they can.
"""

import contextlib
import select
import socket
import time
from collections.abc import Callable
from multiprocessing import get_context
from typing import Final

import coincurve

from benchmarks.report import Units
from tests.corpus import Author

FRAME: Final = b"\x81\x7e\x01\x00" + b"x" * 256
ROUNDS: Final = 5
VERIFICATIONS: Final = 400
PEERS: Final = 200
SENDS: Final = 4_000


def measure_units() -> Units:
    """Measure both units; the best of some rounds, since disturbances only ever add."""
    return Units(_best(_verification), _best(_send))


def _best(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(ROUNDS))


def _verification() -> float:
    event = Author("units").sign(1, "reference")
    signature, digest = bytes.fromhex(event.sig), bytes.fromhex(event.id)
    raw_key = bytes.fromhex(event.pubkey)
    start = time.process_time()
    for _ in range(VERIFICATIONS):
        coincurve.PublicKeyXOnly(raw_key).verify(signature, digest)
    return (time.process_time() - start) / VERIFICATIONS * 1e6


def _send() -> float:
    # as a relay sends: one frame to each of many peers, who are awake in another process
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        senders, receivers = [], []
        for _ in range(PEERS):
            sender = opened.enter_context(socket.create_connection(server.getsockname()))
            sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            senders.append(sender)
            receivers.append(opened.enter_context(server.accept()[0]))
        reader = get_context("fork").Process(target=_read, args=(receivers,), daemon=True)
        reader.start()
        try:
            spent = 0.0
            for _ in range(SENDS // PEERS):
                start = time.process_time()
                for sender in senders:
                    sender.send(FRAME)
                spent += time.process_time() - start
                time.sleep(0.005)  # as long as the reader needs
        finally:
            reader.kill()
            reader.join()
        return spent / SENDS * 1e6


def _read(receivers: list[socket.socket]) -> None:
    with select.epoll() as waiting:
        by_descriptor = {receiver.fileno(): receiver for receiver in receivers}
        for receiver in receivers:
            waiting.register(receiver, select.EPOLLIN)
        while True:
            for descriptor, _ in waiting.poll():
                by_descriptor[descriptor].recv(1 << 16)
