"""Signals: the first drains, the next one forces, and only while somebody watches."""

import os
import signal
import subprocess
import sys

import pytest
import trio

from relay.ops.signals import watch_signals

PROGRAM = """
import trio
from relay.ops.signals import watch_signals

async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(
            watch_signals,
            lambda number: print("drain", number.name, flush=True),
            lambda number: (print("force", number.name, flush=True), nursery.cancel_scope.cancel()),
        )
        print("ready", flush=True)
    print("end")

trio.run(main)
"""


async def test_the_first_signal_drains_and_each_later_one_forces() -> None:
    heard: list[tuple[str, signal.Signals]] = []
    hears, heard_of = trio.open_memory_channel[tuple[str, signal.Signals]](10)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with trio.open_nursery() as nursery:
        await nursery.start(
            watch_signals,
            lambda number: hears.send_nowait(("drain", number)),
            lambda number: hears.send_nowait(("force", number)),
        )
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
            with trio.fail_after(5):
                heard.append(await heard_of.receive())
        nursery.cancel_scope.cancel()
    assert heard == [
        ("drain", signal.SIGTERM),
        ("force", signal.SIGINT),
        ("force", signal.SIGTERM),
    ]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_process_of_its_own_hears_them(first: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(first)
        assert process.stdout.readline() == f"drain {first.name}\n".encode()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"force SIGTERM\nend\n"
    assert process.returncode == 0
