"""How the whole program stops: SIGTERM and Ctrl+C under load, and a second signal (promise P7)."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.corpus import START, Author
from tests.pipeline import SHUTTING_DOWN, Pipeline
from tests.served import ServedRelay, client, process_tree, served_relay
from tests.session.serving import RawClient

EVENTS = 12_000
WINDOW = 400


def last_line(relay: ServedRelay) -> dict[str, Any]:
    """Return the last line of the relay's log."""
    fields: dict[str, Any] = json.loads(relay.stderr_path.read_text().splitlines()[-1])
    return fields


@pytest.mark.parametrize("way", ["SIGTERM", "Ctrl+C"])
async def test_f8_a_stop_amid_an_import_leaves_no_event_in_doubt(tmp_path: Path, way: str) -> None:
    author = Author("stop")
    events = [author.sign(1, f"note {number}", [], START + number) for number in range(EVENTS)]
    with served_relay(tmp_path, config='logging.format = "json"') as relay:
        async with client(relay.url) as one:
            pipeline = Pipeline(one, events, WINDOW)
            async with trio.open_nursery() as publishing:
                publishing.start_soon(pipeline.run)
                await pipeline.under_way.wait()
                if way == "SIGTERM":
                    os.kill(relay.pid, signal.SIGTERM)
                else:
                    # a terminal sends it to the whole group: the writer and the verifiers, too
                    os.killpg(relay.pid, signal.SIGINT)
        assert relay.wait() == 0
        line = last_line(relay)
        assert (line["event"], line["level"]) == ("stopped", "info")
        assert (line["connections"], line["forced"], line["unanswered"]) == (1, 0, 0)
        stored = pipeline.said(accepted=True)
        refused = pipeline.said(accepted=False, reason=SHUTTING_DOWN)
        assert stored + refused == pipeline.sent, "an event got no answer, or the wrong one"
        assert len(stored) >= EVENTS // 3
        assert refused, "it was not in full swing"
        relay.start()
        async with client(relay.url) as one:
            found: set[str] = set()
            for first in range(0, len(pipeline.sent), 400):
                wanted = pipeline.sent[first : first + 400]
                found.update([event.id for event in await one.request({"ids": wanted})])
            assert found == set(stored), "what was refused is stored, or what was stored is not"


async def test_p7_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    config = "connections.write_timeout = 600\nconnections.pong_timeout = 600"
    arguments = ["--drain-timeout", "600"]
    with served_relay(tmp_path, config=config, arguments=arguments) as relay:
        author = Author("stop")
        async with client(relay.url) as one:
            for number in range(200):
                await one.accept(author.sign(1, f"{number} " + "x" * 50_000, [], START + number))
        deaf = RawClient(relay.port)
        try:
            await deaf.handshake()
            deaf.send(["REQ", "all", {"kinds": [1]}])
            await trio.lowlevel.wait_readable(deaf.socket)
            tree = process_tree(relay.pid)
            os.kill(relay.pid, signal.SIGTERM)
            await trio.sleep(1)
            assert process_tree(relay.pid) == tree, "it did not wait for the peer"
            os.kill(relay.pid, signal.SIGTERM)
            assert relay.wait() == 1
        finally:
            deaf.close()
        line = last_line(relay)
        assert (line["event"], line["level"]) == ("stopped", "warning")
        assert (line["connections"], line["forced"], line["unsettled"]) == (1, 1, 1)
        assert line["unsent_bytes"] > 100_000
        assert len(tree) > 1
        relay.start()
