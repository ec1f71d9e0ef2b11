"""`relay check load`: every delivery of many connections, and what the relay keeps of them."""

from pathlib import Path

import pytest

from tests.check.command import Outcome, finish, run, start
from tests.check.faulty import Event, FaultyRelay, Peer, serving
from tests.served import served_relay

SMALL = ("--connections", 12, "--subscriptions-per-connection", 2, "--at-once", 5)
QUICK = ("--duration", 0.15, "--rate", 200, "--settle", 0.2)

STEADY = """
relay_connections 1
relay_subscriptions 0
relay_tasks 16
process_open_fds 20
process_resident_memory_bytes 50000000
relay_log_lines_total{{level="info"}} {scrapes}
relay_log_lines_total{{level="warning"}} 0
relay_log_lines_total{{level="error"}} 0
relay_connection_faults_total 0
"""


def load(*arguments: object) -> Outcome:
    return run("load", "--json", *arguments)


def loaded(relay: FaultyRelay, *arguments: object) -> Outcome:
    with serving(relay) as url:
        return load("--url", url, *SMALL, *QUICK, *arguments)


# of a small load little can be told about memory: the first connections cost most
NO_MATTER = ("--memory-tolerance", 1000)


def test_our_relay_is_as_it_was_after_a_load(tmp_path: Path) -> None:
    with served_relay(tmp_path) as relay:
        outcome = load("--url", relay.url, *SMALL, *QUICK, *NO_MATTER, "--settle", 10)
    found, server = outcome.verdict["deliveries"], outcome.verdict["server"]
    assert (outcome.code, outcome.failures) == (0, "")
    assert found["received"] == 30 * 24
    assert server["before"]["subscriptions"] == server["after"]["subscriptions"] == 0
    # the audience, the publisher and whoever asks
    assert server["during"]["connections"] == 12 + 1 + 1
    assert server["during"]["subscriptions"] == 24


def test_our_relay_is_as_it_was_after_a_churn(tmp_path: Path) -> None:
    with served_relay(tmp_path) as relay:
        outcome = finish(
            start(*("load", "--url", relay.url, "--churn", 300, *NO_MATTER, "--settle", 10))
        )
    assert outcome.code == 0, outcome
    assert "  completed                300\n" in outcome.stdout
    assert "\nPASSED: 300 connections came and went, and everything" in outcome.stdout


def test_a_relay_that_tells_nothing_is_judged_by_its_deliveries() -> None:
    outcome = loaded(FaultyRelay())
    assert (outcome.code, outcome.failures) == (0, "")
    assert outcome.verdict["server"] == {"before": None, "during": None, "after": None}
    assert "not available" in outcome.verdict["remarks"][0]
    with serving(FaultyRelay()) as url:
        outcome = run("load", "--url", url, *SMALL, *QUICK)
    assert "  tasks          not available not available not available\n" in outcome.stdout


class DropsOnce(FaultyRelay):
    metrics = STEADY

    async def deliver(self, number: int, event: Event) -> None:
        if number != 7:
            await self.deliver_to_all(event)


def test_a_loss_under_load_fails_the_check() -> None:
    outcome = loaded(DropsOnce())
    assert outcome.code == 1
    assert outcome.failures == "24 deliveries were lost, on 24 of 24 subscriptions"


def telling(metrics: str) -> FaultyRelay:
    relay = FaultyRelay()
    relay.metrics = metrics
    return relay


def test_a_relay_whose_state_is_steady_passes() -> None:
    outcome = loaded(telling(STEADY))
    assert (outcome.code, outcome.failures) == (0, "")
    assert outcome.verdict["server"]["after"]["memory"] == 50_000_000


@pytest.mark.parametrize(
    ("steady", "growing", "failure"),
    [
        ("relay_tasks 16", "relay_tasks {scrapes}", "tasks are not back where they were: 2 before"),
        ("_fds 20", "_fds {scrapes}", "descriptors are not back where they were: 2 before"),
        ("relay_connections 1", "relay_connections {scrapes}", "connections are not back"),
        ("relay_subscriptions 0", "relay_subscriptions {scrapes}", "subscriptions are not back"),
        (
            "memory_bytes 50000000",
            "memory_bytes {scrapes}0000000",
            "memory is not back where it was: 20.0 MB before",
        ),
        ('"error"}} 0', '"error"}} {scrapes}', "of level error"),
        ("faults_total 0", "faults_total {scrapes}", "on connections"),
    ],
)
def test_what_grows_fails_the_check(steady: str, growing: str, failure: str) -> None:
    assert steady in STEADY
    outcome = loaded(telling(STEADY.replace(steady, growing)))
    assert outcome.code == 1
    assert failure in outcome.failures
    assert len(outcome.verdict["failures"]) == 1


def test_warnings_are_told_and_fail_nothing() -> None:
    outcome = loaded(telling(STEADY.replace('"warning"}} 0', '"warning"}} {scrapes}')))
    assert outcome.code == 0
    assert "warnings" in outcome.verdict["remarks"][0]


class TellsNoMore(FaultyRelay):
    metrics = STEADY

    async def deliver(self, _number: int, event: Event) -> None:
        self.metrics = ""
        await self.deliver_to_all(event)


def test_a_state_that_cannot_be_read_any_more_fails_the_check() -> None:
    outcome = loaded(TellsNoMore())
    assert outcome.code == 1
    assert outcome.failures == "the relay's metrics could not be read after the load"


def test_memory_may_grow_as_much_as_is_allowed() -> None:
    metrics = STEADY.replace("_bytes 50000000", "_bytes 5{scrapes}000000")
    assert loaded(telling(metrics)).code == 0
    assert loaded(telling(metrics), "--memory-tolerance", 1).code == 1


def test_the_state_may_be_told_elsewhere() -> None:
    with serving(telling(STEADY)) as elsewhere, serving(FaultyRelay()) as url:
        metrics = elsewhere.replace("ws:", "http:") + "/metrics"
        outcome = load("--url", url, *SMALL, *QUICK, "--metrics-url", metrics)
    assert outcome.code == 0
    assert outcome.verdict["server"]["after"]["tasks"] == 16


class IsFull(FaultyRelay):
    async def handshake(self, peer: Peer) -> None:
        if len(self.peers) >= 8:
            await peer.stream.send_all(b"HTTP/1.1 503 Too many\r\n\r\n")
            await peer.stream.aclose()
        else:
            await super().handshake(peer)


def test_connections_that_are_refused_fail_the_check() -> None:
    outcome = loaded(IsFull(), "--at-once", 1, "--publishers", 1)
    assert outcome.code == 1
    assert outcome.stderr.endswith("it answers the handshake with '503 Too many'\n")


class LosesSome(FaultyRelay):
    async def requested(self, peer: Peer, name: str) -> None:
        if self.published == 0 and len(self.peers) > 8:
            await peer.stream.aclose()
        else:
            await super().requested(peer, name)


def test_connections_that_are_lost_while_opening_fail_the_check() -> None:
    outcome = loaded(LosesSome(), "--at-once", 1)
    assert outcome.code == 1
    # where something was still unread the end comes as a reset
    assert outcome.failures.startswith("4 connections ended too early: the relay ")


class ForgetsEose(FaultyRelay):
    async def requested(self, peer: Peer, name: str) -> None:
        await peer.send("CLOSED", name, "error: too many")


def test_a_churn_whose_requests_are_refused_fails() -> None:
    with serving(ForgetsEose()) as url:
        outcome = load("--url", url, "--churn", 20, *QUICK)
    assert outcome.code == 1
    assert outcome.failures == (
        "20 subscriptions refused or ended by the relay: CLOSED error: too many"
    )
    assert outcome.verdict["churn"]["completed"] == 0


def test_descriptors_are_allowed_as_they_are_needed() -> None:
    with serving(FaultyRelay()) as url:
        command = ("load", "--json", "--url", url, *QUICK, "--connections", 100, "--settle", 5)
        outcome = finish(start(*command, descriptors=80))
    assert (outcome.code, outcome.failures) == (0, "")
    assert outcome.verdict["deliveries"]["connections"] == 100


def test_more_connections_than_descriptors_is_one_line() -> None:
    outcome = load("--connections", 10**12)
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("relay: so many connections need 1,000,000,000,0")
    assert outcome.stderr.count("\n") == 1
