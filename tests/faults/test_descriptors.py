"""The relay runs out of descriptors, as it does under more connections than the system allows.

Who is connected is served on; who is not waits in the kernel's queue, and is served when others
have left. What the relay itself needs descriptors for, a new writer process, it tries again.
"""

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.faults.store_files import check_whole
from tests.faults.watching import (
    WRITER,
    bystanders,
    companions,
    complaints,
    descriptors,
    is_alive,
    log,
    note,
    processor_seconds,
    until,
)
from tests.served import PROBE, ServedRelay, client, served_relay

CROWD = 80
ROOM = 30


@contextlib.contextmanager
def few_descriptors(relay: ServedRelay, spare: int) -> Iterator[None]:
    """Let the session process have so many more descriptors for the length of a block."""
    limits = resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
    lowest = descriptors(relay.pid)[-1] + 1 + spare
    resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, limits)


@contextlib.contextmanager
def crowd(relay: ServedRelay, count: int) -> Iterator[list[socket.socket]]:
    """Have so many connected, or waiting to be, for the length of a block."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", relay.port)))
            for _ in range(count)
        ]


@pytest.mark.slow
async def test_without_descriptors_those_connected_are_served_and_the_others_when_some_have_left(
    tmp_path: Path,
) -> None:
    with served_relay(tmp_path) as relay:
        async with bystanders(relay.url) as others:
            with few_descriptors(relay, ROOM), crowd(relay, CROWD) as waiting:
                await until(lambda: log(relay, "cannot accept connections"))
                await others.until_served(20)
                # one look a second in the end, and otherwise at rest
                used, lines = processor_seconds(relay.pid), len(log(relay))
                published = len(others.published)
                await trio.sleep(2)
                work = processor_seconds(relay.pid) - used
                assert work < 1.0, f"{work} s of 2 at work for {len(others.published) - published}"
                assert len(log(relay)) - lines <= 4
                # the last one of those that wait is served when as many have left
                for one in waiting[:-1]:
                    one.close()
                last = waiting[-1]
                last.setblocking(False)
                last.send(PROBE)
                with trio.fail_after(10):
                    await trio.lowlevel.wait_readable(last)
                assert last.recv(12) == b"HTTP/1.1 200"
                async with client(relay.url) as newcomer:
                    await newcomer.accept(note("from somebody new"))
        assert {line["event"] for line in complaints(relay)} == {"cannot accept connections"}


async def test_a_writer_that_dies_without_descriptors_is_started_when_there_are_some(
    tmp_path: Path,
) -> None:
    first, second = note("first"), note("second")
    with served_relay(tmp_path) as relay:
        async with client(relay.url) as publisher, client(relay.url) as subscriber:
            live = await subscriber.subscribe({"kinds": [1]})
            await publisher.accept(first)
            (writer,) = companions(relay, WRITER)
            with few_descriptors(relay, 0), crowd(relay, 5):
                await until(lambda: log(relay, "cannot accept connections"))
                os.kill(writer, signal.SIGKILL)
                await until(lambda: not is_alive(writer))
                # its socket gives two of them back, which the crowd takes
                await until(lambda: len(log(relay, "writer lost")) >= 3)
                assert "cannot be started" in log(relay, "writer lost")[-1]["reason"]
                assert await publisher.publish(second) == (
                    False,
                    "error: the writer is not running",
                )
                assert await publisher.count({"ids": [first.id]}) == 1
            while not (await publisher.publish(second))[0]:  # noqa: ASYNC110
                await trio.sleep(0.1)  # until there is a writer again
            assert (await subscriber.event(live)).id == first.id
            assert (await subscriber.event(live)).id == second.id
            assert len(companions(relay, WRITER)) == 1
        # nothing was left open by the attempts that failed
        async with client(relay.url) as reader:
            assert await reader.count({}) == 2
    assert check_whole(Path(relay.store)) == 2
