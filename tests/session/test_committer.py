"""The writer process: started, fed, killed, restarted."""

import os
import signal
from pathlib import Path

import pytest
import trio

from relay.errors import StoreUnavailable
from relay.protocol.event import record
from relay.session.committer import Committer, LocalCommitter, ProcessCommitter
from relay.store.api import Outcome, Terms
from relay.store.locate import open_reader, open_writer, parse_location
from relay.store.sqlite.batch import REMOVED_AT_ONCE
from tests.served import process_tree
from tests.session.serving import NOW, Journal, notes
from tests.store.making import author, filter_, note


def writer_process() -> int:
    children = process_tree(os.getpid())[1:]
    (pid,) = [
        child
        for child in children
        if b"commit_server" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return pid


async def test_batches_are_committed_in_order_and_numbered(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    location = str(tmp_path / "store.sqlite3")
    committer = ProcessCommitter(location, Journal())
    await nursery.start(committer.run)
    events = [record(event) for event in notes(30)]
    tickets = [await committer.begin(events[at : at + 10], NOW) for at in (0, 10, 20)]
    seqs = [one.seq for ticket in tickets for one in await committer.finish(ticket)]
    assert seqs == list(range(1, 31))
    again = await committer.finish(await committer.begin(events[:1], NOW))
    assert again[0].outcome is Outcome.DUPLICATE
    reader = open_reader(parse_location(location))
    assert reader.head() == 30
    reader.close()
    nursery.cancel_scope.cancel()


async def test_a_killed_writer_fails_what_was_under_way_and_is_started_again(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    journal = Journal()
    location = str(tmp_path / "store.sqlite3")
    committer = ProcessCommitter(location, journal)
    await nursery.start(committer.run)
    first, second, third = (record(event) for event in notes(3))
    await committer.finish(await committer.begin([first], NOW))
    os.kill(writer_process(), signal.SIGSTOP)
    ticket = await committer.begin([second], NOW)
    os.kill(writer_process(), signal.SIGKILL)
    with trio.fail_after(10), pytest.raises(StoreUnavailable):
        await committer.finish(ticket)
    with trio.fail_after(20):
        while True:
            try:
                committed = await committer.finish(await committer.begin([third], NOW))
                break
            except StoreUnavailable:
                await trio.sleep(0.05)
    assert committed[0].outcome is Outcome.STORED
    assert [line[1] for line in journal.errors()] == ["writer lost"]
    reader = open_reader(parse_location(location))
    assert reader.tail(0, 10, 1 << 20, NOW).entries[0].record == first
    reader.close()
    nursery.cancel_scope.cancel()


async def test_a_store_that_cannot_be_opened_is_told_at_the_start(tmp_path: Path) -> None:
    garbage = tmp_path / "store.sqlite3"
    garbage.write_bytes(b"this is no database" * 1000)
    committer = ProcessCommitter(str(garbage), Journal())
    with pytest.raises(StoreUnavailable, match="database"):
        await committer.run()


async def test_the_writer_process_ends_with_the_committer(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        committer = ProcessCommitter(str(tmp_path / "store.sqlite3"), Journal())
        await nursery.start(committer.run)
        pid = writer_process()
        nursery.cancel_scope.cancel()
    assert pid not in process_tree(os.getpid())


@pytest.mark.parametrize("process", [True, False], ids=["process", "local"])
async def test_a_batch_with_terms_is_finished_when_all_is_erased(
    request: pytest.FixtureRequest, tmp_path: Path, nursery: trio.Nursery, *, process: bool
) -> None:
    """More than one transaction removes: whoever waits is told of the last one only."""
    location = str(tmp_path / "store.sqlite3")
    if process:
        committer: Committer = ProcessCommitter(location, Journal())
    else:
        opened = open_writer(parse_location(location))
        request.addfinalizer(opened.close)
        committer = LocalCommitter(opened)
    await nursery.start(committer.run)
    many = [note(at=at) for at in range(2 * REMOVED_AT_ONCE + 1)]
    await committer.finish(await committer.begin(many, NOW))
    terms = Terms(expected={f"0:{author(1)}:": None}, erase=(filter_(kinds=[1]),))
    profile = note(kind=0)
    ticket = await committer.begin([profile], NOW, terms)
    assert await committer.finish(ticket) == [(Outcome.STORED, len(many) + 1)]
    reader = open_reader(parse_location(location))
    entries = reader.tail(0, 10, 1 << 20, NOW).entries
    assert [entry.record for entry in entries] == [profile]
    reader.close()
    ticket = await committer.begin([note(kind=0)], NOW, terms)
    assert await committer.finish(ticket) == [(Outcome.CONFLICT, 0)]
    nursery.cancel_scope.cancel()
