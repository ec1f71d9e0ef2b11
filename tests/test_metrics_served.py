"""Failure F10: that messages wait, are dropped or refused, and how all ends, can be seen."""

import json
import os
import signal
import urllib.request
from pathlib import Path

import msgspec
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.corpus import START, Author
from tests.served import ServedRelay, client, served_relay
from tests.session.serving import RawClient

EVENTS = 240
SIZE = 40_000


async def numbers(relay: ServedRelay) -> dict[str, float]:
    """Return what the relay says about itself; labels stand in the name as they are written."""
    url = f"http://127.0.0.1:{relay.port}/metrics"
    text = await trio.to_thread.run_sync(lambda: urllib.request.urlopen(url, timeout=10).read())
    return {
        sample.name + "".join(f"{{{key}={value}}}" for key, value in sample.labels.items()): (
            sample.value
        )
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def until(relay: ServedRelay, name: str) -> None:
    """Wait until a number is 1."""
    with trio.fail_after(10):
        while True:
            if (await numbers(relay))[name] == 1:
                return
            await trio.sleep(0.02)


async def test_f10_laggards_drops_refusals_and_endings_are_metrics_and_a_stop_tells_what_was_left(
    tmp_path: Path,
) -> None:
    author = Author("f10")
    config = '[connections]\nback_pressure = "drop-new"\noutbox_bytes = 100000\n'
    arguments = ["--drain-timeout", "1"]
    with served_relay(tmp_path, config=config, arguments=arguments) as relay:
        async with client(relay.url) as one:
            before = await numbers(relay)
            assert before["relay_connections"] == 2, "the client's, and the one that asks"
            deaf = RawClient(relay.port)
            await deaf.handshake()
            deaf.send(["REQ", "s", {"kinds": [1, 20_001]}])
            await until(relay, "relay_subscriptions")
            for number in range(EVENTS):
                kind = (1, 20_001)[number % 2]
                note = author.sign(kind, f"{number} " + "x" * SIZE, [], START + number)
                await one.accept(note)
            assert (await one.publish(note))[0], "a duplicate"
            forged = msgspec.structs.replace(author.sign(1, "forged", [], START), sig="00" * 64)
            assert not (await one.publish(forged))[0]
            now = await numbers(relay)
            assert now["relay_events_total{outcome=stored}"] == EVENTS / 2
            assert now["relay_events_total{outcome=ephemeral}"] == EVENTS / 2
            assert now["relay_events_total{outcome=duplicate}"] == 1
            assert now["relay_events_total{outcome=refused}"] == 1
            assert now["relay_log_position"] == EVENTS / 2
            assert now["relay_outbox_bytes"] >= 100_000
            assert now["relay_outbox_chunks"] >= 2
            assert now["relay_laggards_total"] == 1
            assert now["relay_subscriptions_behind"] == 1
            assert now["relay_backlog_events"] >= 2
            dropped = [
                now["relay_events_dropped_total{kind=stored}"],
                now["relay_events_dropped_total{kind=ephemeral}"],
            ]
            assert min(dropped) > 10
            assert now["relay_deliveries_total"] < EVENTS - sum(dropped)
            gone = RawClient(relay.port)
            await gone.handshake()
            gone.reset()
            await until(relay, "relay_connections_ended_total{ending=lost}")
            os.kill(relay.pid, signal.SIGTERM)
            assert (await one.closed())[0] == 1001
        assert relay.wait() == 1
        deaf.close()
        line = json.loads(relay.stderr_path.read_text().splitlines()[-1])
        assert (line["event"], line["level"]) == ("stopped", "warning")
        assert (line["connections"], line["forced"], line["unsettled"]) == (2, 1, 1)
        assert line["unsent_bytes"] >= 100_000
