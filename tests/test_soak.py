"""Thousands of connections for minutes, and connections by the ten thousand that come and go.

Both are `relay check load` against a served relay, each a process of its own, as an operator would
run it: nothing lost, nothing duplicated, and afterwards tasks, descriptors, subscriptions,
connections and memory as before, with no error in the log (failures F3, F7, F11).

In full the load lasts ten minutes. A shorter one has as many connections, for two minutes at least:
what many connections leave behind is found in the first seconds, what time leaves behind is not.

Memory within 10 % of that needs the system's allocator (see `relay.ops.allocator`); with
Python's own, which is faster, twice the baseline stays, for the next crowd.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.check.command import Outcome, finish, start
from tests.served import ServedRelay, served_relay

CONNECTIONS: Final = 5_000
EVENTS_PER_SECOND: Final = 2
SECONDS: Final = 600
FEWEST_SECONDS: Final = 120
CHURN: Final = 100_000
MEMORY_TOLERANCE: Final = 10
"""Percent by which the relay's memory may have grown after everybody has left."""
CONFIG: Final = 'allocator = "system"'

_BESIDES: Final = 240
_SETTLE: Final = 30


def _loaded(relay: ServedRelay, seconds: float, *arguments: object) -> Outcome:
    command = ("load", "--json", "--url", relay.url, "--settle", _SETTLE)
    tolerance = ("--memory-tolerance", MEMORY_TOLERANCE)
    return finish(start(*command, *tolerance, *arguments), timeout=seconds + _BESIDES)


def _judge(outcome: Outcome, relay: ServedRelay) -> None:
    assert (outcome.code, outcome.failures) == (0, ""), outcome.stdout
    assert outcome.verdict["server"]["after"] is not None
    # what the relay says about itself is compared with what it wrote
    lines = relay.stderr_path.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if '"level": "error"' in line or "Traceback" in line]


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_f3_f11_thousands_of_subscriptions_lose_nothing_and_leave_nothing(
    tmp_path: Path, scale: float
) -> None:
    seconds = max(FEWEST_SECONDS, SECONDS * scale)
    with served_relay(tmp_path, config=CONFIG) as relay:
        outcome = _loaded(
            relay,
            seconds,
            *("--connections", CONNECTIONS, "--rate", EVENTS_PER_SECOND, "--duration", seconds),
        )
        _judge(outcome, relay)
    found = outcome.verdict["deliveries"]
    assert found["connections"] == found["subscriptions"] == CONNECTIONS
    assert found["received"] == found["accepted"] * CONNECTIONS
    # a relay that answers slowly is not measured here, but one that hardly moves is no test
    assert found["accepted"] >= EVENTS_PER_SECOND * seconds / 2


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_f7_connections_that_come_and_go_leave_nothing(tmp_path: Path, scale: float) -> None:
    visits = int(CHURN * scale)
    with served_relay(tmp_path, config=CONFIG) as relay:
        outcome = _loaded(relay, visits / 50, "--churn", visits)
        _judge(outcome, relay)
    assert outcome.verdict["churn"]["completed"] == visits
