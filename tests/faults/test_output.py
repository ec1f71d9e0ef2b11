"""Nobody reads what the relay prints: a pipe that is full, or closed, or a terminal that is gone.

`relay serve 2>&1 | head -1`, a log collector that hangs, a shell that was closed: the relay must
not care. The plumber below prepares the descriptors, and becomes the relay.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.faults.store_files import check_whole
from tests.faults.watching import WRITER, bystanders, companions, note, until
from tests.served import COMMAND, client, served_relay

PLUMBER: Final = """
import os, sys
how, command = sys.argv[1], sys.argv[2:]
what, _, descriptor = how.partition(" ")
if what == "missing":
    os.close(int(descriptor))
else:
    reader, writer = os.pipe()
    if what == "full":
        # whoever has the other end never reads; here that is the relay itself
        os.set_inheritable(reader, True)
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, b"x" * 512)
        except BlockingIOError:
            os.set_blocking(writer, True)
    else:
        os.close(reader)
    os.dup2(writer, int(descriptor))
    os.close(writer)
os.execv(command[0], command)
"""


def plumbed(how: str) -> Sequence[str]:
    return [sys.executable, "-c", PLUMBER, how, *COMMAND]


@pytest.mark.parametrize(
    "how",
    [
        "full 2",
        "closed 2",
        pytest.param("missing 2", marks=pytest.mark.slow),
        pytest.param("closed 1", marks=pytest.mark.slow),
        pytest.param("missing 1", marks=pytest.mark.slow),
    ],
)
async def test_a_relay_whose_output_nobody_takes_serves_on_and_stops_in_good_order(
    tmp_path: Path, how: str
) -> None:
    config = "verifiers = 1\n[logging]\nlevel = 'debug'\n"
    with served_relay(tmp_path, command=plumbed(how), config=config) as relay:
        async with bystanders(relay.url) as others:
            for number in range(30):
                # each of these ends with a line of the log
                async with client(relay.url) as one:
                    await one.accept(note(f"{how} {number}"))
            await others.until_served()
            # and a companion that is lost with one as well
            (writer,) = companions(relay, WRITER)
        os.kill(writer, signal.SIGKILL)
        await until(lambda: companions(relay, WRITER) not in ([], [writer]))
        async with client(relay.url) as one:
            while not (await one.publish(note("a new writer")))[0]:  # noqa: ASYNC110
                await trio.sleep(0.1)  # until it is ready
        assert await trio.to_thread.run_sync(relay.terminate) == 0
    assert check_whole(Path(relay.store)) >= 31


async def test_a_terminal_that_is_closed_means_a_drain(tmp_path: Path) -> None:
    events = [note(f"number {number}") for number in range(20)]
    with served_relay(tmp_path) as relay:
        async with client(relay.url) as one:
            await one.accept(*events)
            os.killpg(relay.pid, signal.SIGHUP)
            code, _ = await one.closed()
            assert code == 1001
        assert relay._process is not None
        assert await trio.to_thread.run_sync(relay._process.wait) == 0
    assert check_whole(Path(relay.store)) == len(events)


async def test_a_relay_that_was_told_to_outlive_its_terminal_does(tmp_path: Path) -> None:
    with served_relay(tmp_path, command=["nohup", *COMMAND]) as relay:
        async with bystanders(relay.url) as others:
            os.killpg(relay.pid, signal.SIGHUP)
            await others.until_served(20)
