"""The process that other tests talk to, and the client they talk with."""

from pathlib import Path

from tests.corpus import START, Author
from tests.served import client, process_tree, served_relay


async def test_a_served_relay_takes_and_gives_back(tmp_path: Path) -> None:
    author = Author("served")
    with served_relay(tmp_path) as relay:
        async with client(relay.url) as reader, client(relay.url) as writer:
            live = await reader.subscribe({"authors": [author.pubkey]})
            notes = [author.sign(1, f"note {number}", (), START + number) for number in range(3)]
            await writer.accept(*notes)
            assert [await reader.event(live) for _ in notes] == notes
            assert await reader.request({"kinds": [1]}) == notes[::-1]
            assert await reader.count({"authors": [author.pubkey]}) == 3


async def test_what_was_stored_survives_a_restart(tmp_path: Path) -> None:
    note = Author("served").sign(1, "still here")
    with served_relay(tmp_path) as relay:
        async with client(relay.url) as writer:
            await writer.accept(note)
        first = relay.pid
        relay.restart()
        assert relay.pid != first
        async with client(relay.url) as reader:
            assert await reader.request({"ids": [note.id]}) == [note]


def test_a_relay_that_is_asked_to_stop_ends_well_and_leaves_no_process(tmp_path: Path) -> None:
    with served_relay(tmp_path) as relay:
        assert process_tree(relay.pid)[0] == relay.pid
        assert relay.terminate() == 0
