"""The store's surroundings fail: a full disk, a locked or read-only file, a disk that hangs.

A full disk is made by the limit that the kernel puts on the files of the writer process: beyond it
a write fails, as on a full disk, for root, too. What the relay says of it is `error: …`; everything
that needs no writing goes on.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import trio

from relay.protocol.event import Event
from relay.store.sqlite.writer import SQLiteWriter
from tests.corpus import Author, event_message
from tests.faults.store_files import check_whole
from tests.faults.watching import WRITER, companions, complaints, is_alive, log, note, until
from tests.served import COMMAND, ROOT, Client, ServedRelay, client, free_port, served_relay

EXIT_DEADLINE: Final = 30

LOCK: Final = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.set_busy_timeout(10000)
for statement in sys.argv[2].split(";"):
    connection.execute(statement).fetchall()
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def no_room(pid: int, largest_file: int) -> Iterator[None]:
    """Let the process write no file beyond so many bytes for the length of a block."""
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest_file, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop the process for the length of a block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def held(path: str, statements: str) -> Iterator[None]:
    """Have another process execute these statements, and keep its connection meanwhile."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, path, statements],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            process.communicate(timeout=EXIT_DEADLINE)
    assert process.returncode == 0


def write_ahead_log(relay: ServedRelay) -> Path:
    return Path(relay.store + "-wal")


def put_folder(path: Path, *, away: bool = False) -> None:
    """Put a folder in a file's place, which nobody can open as a file, root neither."""
    if away:
        path.rmdir()
    else:
        path.unlink()
        path.mkdir()


async def publish_all(publisher: Client, events: list[Event]) -> list[tuple[bool, str]]:
    """Publish without waiting in between; return the answers."""
    for event in events:
        await publisher.send(event_message(event))
    answers = []
    for event in events:
        _, _, accepted, reason = await publisher.expect("OK", event.id)
        answers.append((accepted, reason))
    return answers


async def received(subscriber: Client, live: str, count: int) -> list[str]:
    return [(await subscriber.event(live)).id for _ in range(count)]


@pytest.mark.parametrize("room", ["none", "what there is"])
async def test_a_full_disk_refuses_events_and_they_are_taken_when_there_is_room(
    tmp_path: Path, room: str
) -> None:
    before = [note(f"before {number}") for number in range(20)]
    refused = [note(f"refused {number}", size=3_000) for number in range(100)]
    (after,) = [note("after")]
    with served_relay(tmp_path) as relay:
        async with client(relay.url) as publisher, client(relay.url) as subscriber:
            live = await subscriber.subscribe({"kinds": [1, 20_001]})
            await publisher.accept(*before)
            (writer,) = companions(relay, WRITER)
            largest = 0 if room == "none" else write_ahead_log(relay).stat().st_size
            with no_room(writer, largest):
                for accepted, reason in await publish_all(publisher, refused):
                    assert not accepted
                    assert reason.startswith("error: ")
                # what was taken before is known, answered and counted
                await publisher.accept(before[0])
                async with client(relay.url) as reader:
                    found = await reader.request({"kinds": [1]})
                    assert {event.id for event in found} == {event.id for event in before}
                    assert await reader.count({"kinds": [1]}) == len(before)
                # what is not stored in any case goes its way
                ephemeral = Author("ephemeral").sign(20_001, "", [], after.created_at)
                await publisher.accept(ephemeral)
                # the writer's housekeeping waits for a quiet moment, and may then say so once
                await trio.sleep(0.5)
                complained = len(complaints(relay))
                await trio.sleep(1)
                assert len(complaints(relay)) == complained, "the log grows while nothing happens"
                assert complained <= 5, "a line for each commit that fails"
            for accepted, reason in await publish_all(publisher, [*refused, after]):
                assert accepted, reason
            events = [*before, ephemeral, *refused, after]
            assert await received(subscriber, live, len(events)) == [event.id for event in events]
            await subscriber.nothing(0.2)
            assert companions(relay, WRITER) == [writer], "nothing needed to be started again"
            said = {line["event"] for line in complaints(relay)}
            assert "commit failed" in said
            assert said <= {"commit failed", "housekeeping failed"}
    assert check_whole(Path(relay.store)) == len(events) - 1


@pytest.mark.slow
async def test_checkpoints_that_find_no_room_lose_nothing_and_go_on_when_there_is(
    tmp_path: Path,
) -> None:
    # the log is moved into the file when it has 16 MB: once that works, then there is no room
    events = [note(f"{number} ", size=380_000) for number in range(200)]
    taken: list[Event] = []
    with served_relay(tmp_path) as relay:
        (writer,) = companions(relay, WRITER)
        async with client(relay.url) as publisher, client(relay.url) as reader:
            with no_room(writer, 20 << 20):
                for event in events:
                    accepted, reason = await publisher.publish(event)
                    if not accepted:
                        assert reason.startswith("error: ")
                        break
                    taken.append(event)
                assert 40 < len(taken) < len(events), "a checkpoint, and then no room"
                ids = [event.id for event in taken]
                assert len(await reader.request({"ids": ids})) == len(taken)
                assert [line["event"] for line in complaints(relay)] == ["commit failed"]
            await publisher.accept(*events[len(taken) :])
            assert await reader.count({"kinds": [1]}) == len(events)
            # the log began anew instead of growing by all that was published
            assert write_ahead_log(relay).stat().st_size < 48 << 20
            assert companions(relay, WRITER) == [writer]
    assert check_whole(Path(relay.store)) == len(events)


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
async def test_events_wait_while_another_process_has_the_store_locked(
    tmp_path: Path, lock: str
) -> None:
    first, second = note("first"), note("second")
    with served_relay(tmp_path) as relay:
        async with client(relay.url) as publisher, client(relay.url) as subscriber:
            live = await subscriber.subscribe({"kinds": [1]})
            await publisher.accept(first)
            with held(relay.store, lock):
                await publisher.send(event_message(second))
                # the others read meanwhile
                async with client(relay.url) as reader:
                    found = await reader.request({"ids": [first.id, second.id]})
                    assert [event.id for event in found] == [first.id]
                await publisher.expect("AUTH")
                await publisher.nothing(0.5)
            await publisher.expect("OK", second.id, True)
            assert await received(subscriber, live, 2) == [first.id, second.id]
            assert complaints(relay) == []


@pytest.mark.slow
async def test_events_are_refused_when_the_store_stays_locked_and_taken_afterwards(
    tmp_path: Path,
) -> None:
    events = [note(f"number {number}") for number in range(10)]
    with served_relay(tmp_path) as relay:
        async with client(relay.url) as publisher, client(relay.url) as subscriber:
            live = await subscriber.subscribe({"kinds": [1]})
            with held(relay.store, "BEGIN IMMEDIATE"):
                for accepted, reason in await publish_all(publisher, events):
                    assert not accepted
                    assert reason.startswith("error: ")
                    assert "locked" in reason
                assert await subscriber.count({}) == 0
            await publisher.accept(*events)
            assert await received(subscriber, live, 10) == [event.id for event in events]
            await subscriber.nothing(0.1)
            assert {line["event"] for line in complaints(relay)} == {"commit failed"}


@pytest.mark.slow
async def test_a_reader_that_never_ends_makes_the_log_grow_and_nothing_fail(
    tmp_path: Path,
) -> None:
    events = [note(f"{number} ", size=380_000) for number in range(120)]
    size = len(events) * 380_000
    with served_relay(tmp_path) as relay:
        async with client(relay.url) as publisher, client(relay.url) as subscriber:
            live = await subscriber.subscribe({"kinds": [1]})
            await publisher.accept(note("the first"))
            with held(relay.store, "BEGIN; SELECT count(*) FROM event"):
                await publisher.accept(*events)
                assert write_ahead_log(relay).stat().st_size > size
            assert len(await received(subscriber, live, 121)) == 121
            # the log is moved into the file, and begins anew
            grown = write_ahead_log(relay).stat().st_size
            more = [note(f"more {number} ", size=380_000) for number in range(120)]
            await publisher.accept(*more)
            assert write_ahead_log(relay).stat().st_size < grown + size / 2
            assert complaints(relay) == []
    assert check_whole(Path(relay.store)) == 241


def refused_start(store: str) -> str:
    """Start a relay that cannot have this store; return the one line that it says."""
    ended = subprocess.run(
        [*COMMAND, "--port", str(free_port()), "--store", store],
        cwd=ROOT,
        capture_output=True,
        timeout=EXIT_DEADLINE,
    )
    assert ended.returncode == 1
    assert ended.stdout == b""
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith("relay: ")
    assert str(Path(store).parent) in line
    return line


@pytest.mark.slow
async def test_a_second_relay_on_the_same_store_says_so_and_the_first_goes_on(
    tmp_path: Path,
) -> None:
    with served_relay(tmp_path) as relay:
        async with client(relay.url) as publisher:
            await publisher.accept(note("before"))
            line = await trio.to_thread.run_sync(refused_start, relay.store)
            assert line.endswith("another process is writing this store")
            await publisher.accept(note("after"))
        assert complaints(relay) == []
    assert check_whole(Path(relay.store)) == 2


async def test_a_store_that_a_killed_relay_is_still_writing_is_waited_for(tmp_path: Path) -> None:
    with served_relay(tmp_path) as relay:
        async with client(relay.url) as publisher:
            await publisher.accept(note("before"))
            (writer,) = companions(relay, WRITER)
            assert relay._process is not None
            with stopped(writer):
                # its session process is gone, and it has yet to finish
                os.kill(relay.pid, signal.SIGKILL)
                relay._process.wait()
                relay._process = None
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.to_thread.run_sync, relay.start)
                    await trio.sleep(1.5)
                    os.kill(writer, signal.SIGCONT)
            await until(lambda: not is_alive(writer))
        async with client(relay.url) as publisher:
            assert await publisher.count({}) == 1
            await publisher.accept(note("after"))


@pytest.mark.parametrize("what", ["a folder that takes no file", "a file", "no database"])
def test_a_store_that_cannot_be_opened_ends_the_start_with_one_line(
    tmp_path: Path, what: str
) -> None:
    if what == "a folder that takes no file":
        # where nobody, not even root, may create anything
        store = f"/proc/{os.getpid()}/store"
    elif what == "a file":
        (tmp_path / "file").write_text("in the place of a folder")
        store = str(tmp_path / "file" / "store")
    else:
        store = str(tmp_path / "store")
        Path(store).write_bytes(b"no database at all " * 1_000)
    refused_start(store)


async def test_while_no_writer_can_be_started_events_are_refused_and_queries_answered(
    tmp_path: Path,
) -> None:
    first, second = note("first"), note("second")
    with served_relay(tmp_path) as relay:
        lock = Path(relay.store + "-writer")
        async with client(relay.url) as publisher, client(relay.url) as subscriber:
            live = await subscriber.subscribe({"kinds": [1]})
            await publisher.accept(first)
            (writer,) = companions(relay, WRITER)
            put_folder(lock)
            os.kill(writer, signal.SIGKILL)
            await until(lambda: len(log(relay, "writer lost")) >= 3)
            assert await publisher.publish(second) == (False, "error: the writer is not running")
            assert await publisher.count({}) == 1
            assert len(await publisher.request({"ids": [first.id]})) == 1
            reasons = [line["reason"] for line in log(relay, "writer lost")]
            assert "cannot make the writer's lock" in reasons[1]
            put_folder(lock, away=True)
            while not (await publisher.publish(second))[0]:  # noqa: ASYNC110
                await trio.sleep(0.1)  # until there is a writer again
            assert await received(subscriber, live, 2) == [first.id, second.id]
    assert check_whole(Path(relay.store)) == 2


async def test_a_disk_that_hangs_delays_events_and_nothing_else(tmp_path: Path) -> None:
    first = note("first")
    late = [note(f"late {number}") for number in range(600)]
    # the publisher may not be taken for silent while the relay does not let it speak
    config = "[connections]\nping_interval = 0.3\npong_timeout = 0.5\n"
    with served_relay(tmp_path, config=config) as relay:
        async with client(relay.url) as publisher, client(relay.url) as subscriber:
            live = await subscriber.subscribe({"kinds": [1]})
            await publisher.accept(first)
            (writer,) = companions(relay, WRITER)
            with stopped(writer):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(publish_all_accepted, publisher, late)
                    async with client(relay.url) as reader:
                        assert len(await reader.request({"kinds": [1]})) == 1
                        await trio.sleep(1.5)
                        assert await reader.count({}) == 1
                    os.kill(writer, signal.SIGCONT)
            wanted = [first.id, *(event.id for event in late)]
            assert await received(subscriber, live, len(wanted)) == wanted
            await subscriber.nothing(0.1)
            assert complaints(relay) == []


async def publish_all_accepted(publisher: Client, events: list[Event]) -> None:
    for accepted, reason in await publish_all(publisher, events):
        assert accepted, reason


@pytest.mark.slow
async def test_a_relay_whose_disk_hangs_ends_at_the_deadline(tmp_path: Path) -> None:
    # more than the socket to the writer process takes, so that somebody is in the midst of sending
    events = [note(f"{number} ", size=300_000) for number in range(30)]
    with served_relay(tmp_path, config="drain_timeout = 0.5\n") as relay:
        async with client(relay.url) as publisher:
            await publisher.accept(note("before"))
            (writer,) = companions(relay, WRITER)
            with stopped(writer):
                for event in events:
                    await publisher.send(event_message(event))
                await trio.sleep(0.5)
                code = await trio.to_thread.run_sync(relay.terminate)
                assert code == 1
                assert log(relay, "stopped")[-1]["unanswered"] > 0
                assert not is_alive(writer)
        relay.start()
        async with client(relay.url) as publisher:
            assert await publisher.count({}) >= 1
            await publisher.accept(*events)


@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
async def test_a_store_that_was_taken_away_never_becomes_two(
    tmp_path: Path, replaced: bool
) -> None:
    first, second, third = note("first"), note("second"), note("third")
    with served_relay(tmp_path) as relay:
        async with client(relay.url) as publisher, client(relay.url) as subscriber:
            live = await subscriber.subscribe({"kinds": [1]})
            await publisher.accept(first)
            take_away(relay, replaced=replaced)
            # those who have it open go on with it
            await publisher.accept(second)
            assert await received(subscriber, live, 2) == [first.id, second.id]
            assert await publisher.count({}) == 2
            # who opens it anew would write what nobody reads
            (writer,) = companions(relay, WRITER)
            os.kill(writer, signal.SIGKILL)
            await until(lambda: len(log(relay, "writer lost")) >= 2)
            assert "removed or replaced" in log(relay, "writer lost")[-1]["reason"]
            assert await publisher.publish(third) == (False, "error: the writer is not running")
            assert await publisher.count({}) == 2


def take_away(relay: ServedRelay, *, replaced: bool) -> None:
    """Delete the store's files; or put another store in their place, as from a backup."""
    for suffix in ("", "-wal", "-shm"):
        Path(relay.store + suffix).unlink()
    if replaced:
        SQLiteWriter(Path(relay.store + "-other")).close()
        Path(relay.store + "-other").rename(relay.store)
