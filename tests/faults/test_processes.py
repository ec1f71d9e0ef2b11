"""What happens to the relay's processes: stopped and resumed, and signals from outside."""

import os
import select
import signal
import time
from collections import deque
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.corpus import event_message
from tests.faults.store_files import check_whole
from tests.faults.test_peers import Peer, closing
from tests.faults.watching import (
    VERIFIER,
    WRITER,
    bystanders,
    companions,
    complaints,
    log,
    note,
    until,
)
from tests.served import ServedRelay, client, process_tree, served_relay
from tests.session import wire

PING: Final = b"\x89\x00"
PONG: Final = wire.frame(wire.FIN | wire.PONG)
PAUSE: Final = 3.0
DISTANCE: Final = 0.5
"""Seconds that a pong is under way."""
PEERS: Final = 30
SHORT: Final = "[connections]\nping_interval = 0.5\npong_timeout = 1.0\nwrite_timeout = 1.0\n"


class DistantPeers:
    """Peers who answer each ping, after a while; `run` is their life."""

    def __init__(self, relay: ServedRelay) -> None:
        self._peers = [Peer.upgraded(relay) for _ in range(PEERS)]
        self._due: deque[tuple[float, Peer]] = deque()
        self.ended = 0

    @property
    def pongs_under_way(self) -> int:
        return len(self._due)

    async def run(self) -> None:
        with closing(self._peers):
            while True:
                for peer in select.select([one.socket for one in self._peers], [], [], 0)[0]:
                    self._read(peer)
                while self._due and self._due[0][0] <= time.monotonic():
                    self._due.popleft()[1].send(PONG)
                await trio.sleep(0.01)

    def _read(self, readable: object) -> None:
        (peer,) = [one for one in self._peers if one.socket is readable]
        try:
            received = peer.socket.recv(1 << 16)
        except ConnectionError:
            received = b""
        if not received:
            self.ended += 1
            self._peers.remove(peer)
            peer.socket.close()
        elif PING in received:
            self._due.append((time.monotonic() + DISTANCE, peer))


@pytest.mark.slow
async def test_a_relay_that_was_stopped_for_long_keeps_the_peers_that_answer(
    tmp_path: Path,
) -> None:
    with served_relay(tmp_path, config=SHORT) as relay:
        peers = DistantPeers(relay)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peers.run)
            async with client(relay.url) as publisher, client(relay.url) as subscriber:
                live = await subscriber.subscribe({"kinds": [1]})
                for _ in range(2):
                    # as when the machine sleeps: pongs arrive, and nobody is there
                    await until(lambda: peers.pongs_under_way > PEERS / 3)
                    everybody = process_tree(relay.pid)
                    for pid in everybody:
                        os.kill(pid, signal.SIGSTOP)
                    await trio.sleep(PAUSE)
                    for pid in everybody:
                        os.kill(pid, signal.SIGCONT)
                    event = note(f"after {time.monotonic()}")
                    await publisher.accept(event)
                    assert (await subscriber.event(live)).id == event.id
                    await trio.sleep(1)
            assert peers.ended == 0, f"{peers.ended} of {PEERS} were ended"
            assert complaints(relay) == []
            nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_peer_that_vanished_while_the_relay_was_stopped_is_ended(tmp_path: Path) -> None:
    with served_relay(tmp_path, config=SHORT) as relay:
        peer = Peer.upgraded(relay)
        with closing([peer]):
            os.kill(relay.pid, signal.SIGSTOP)
            await trio.sleep(2)
            os.kill(relay.pid, signal.SIGCONT)
            await until(lambda: log(relay, "connection closed"))
        assert "silent" in log(relay, "connection closed")[0]["reason"]


@pytest.mark.slow
async def test_signals_that_mean_nothing_to_a_relay_do_nothing(tmp_path: Path) -> None:
    with served_relay(tmp_path, config="verifiers = 1\n") as relay:
        await until(lambda: companions(relay, VERIFIER))
        await trio.sleep(0.5)
        everybody = process_tree(relay.pid)
        async with bystanders(relay.url) as others:
            for pid in everybody:
                for number in (signal.SIGPIPE, signal.SIGWINCH, signal.SIGCHLD, signal.SIGURG):
                    os.kill(pid, number)
            await others.until_served(10)
        assert process_tree(relay.pid) == everybody
        assert complaints(relay) == []


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
async def test_a_signal_to_all_processes_at_once_is_a_drain_all_the_same(
    tmp_path: Path, number: signal.Signals
) -> None:
    # as a supervisor sends it to all it has started, or a terminal to the whole group
    answers: list[bool] = []
    events = [note(f"number {n}") for n in range(400)]
    with served_relay(tmp_path, config="verifiers = 1\n") as relay:
        await until(lambda: companions(relay, VERIFIER))
        await trio.sleep(0.5)
        async with client(relay.url) as publisher:
            for event in events:
                await publisher.send(event_message(event))
            await publisher.expect("OK")
            assert companions(relay, WRITER)
            os.killpg(relay.pid, number)
            code, _ = await publisher.closed()
            assert code == 1001
            while publisher.pending("OK"):
                _, _, accepted, reason = await publisher.expect("OK")
                answers.append(accepted)
                assert accepted or reason == "error: shutting down"
        # by itself: a second signal would end the drain
        assert relay._process is not None
        assert await trio.to_thread.run_sync(relay._process.wait) == 0
    assert len(answers) == len(events) - 1
    assert check_whole(Path(relay.store)) == 1 + sum(answers)


@pytest.mark.slow
async def test_a_verifier_that_dies_while_it_starts_is_started_again(tmp_path: Path) -> None:
    with served_relay(tmp_path, config="verifiers = 1\n") as relay:
        await until(lambda: companions(relay, VERIFIER))
        (first,) = companions(relay, VERIFIER)
        os.kill(first, signal.SIGKILL)
        async with bystanders(relay.url):
            await until(lambda: companions(relay, VERIFIER) not in ([], [first]))
        assert [line["event"] for line in complaints(relay)] == ["no verifier"]
