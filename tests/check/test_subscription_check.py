"""`relay check subscription` against relays that are faithful, and ones that are not.

Failure F5: the tester that this one replaces took a read timeout for an error, and its verdict
never reached the exit code.
"""

import select
import signal
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
from wsproto.events import CloseConnection

from tests.check.command import Outcome, finish, run, start
from tests.check.faulty import Event, FaultyRelay, Peer, serving
from tests.served import served_relay

CERTIFICATE = Path(__file__).with_name("localhost.pem")
QUICK = ("--duration", 0.15, "--rate", 200, "--settle", 0.2)


def subscription(*arguments: object, **environment: str) -> Outcome:
    return run("subscription", "--json", *arguments, **environment)


def checked(relay: FaultyRelay, *arguments: object) -> Outcome:
    with serving(relay) as url:
        return subscription("--url", url, *QUICK, "--subscriptions", 4, *arguments)


# Relays that keep their word.


@pytest.mark.parametrize("kind", [1, 20001, 30023])
def test_our_relay_passes(tmp_path: Path, kind: int) -> None:
    with served_relay(tmp_path) as relay:
        outcome = subscription("--url", relay.url, *QUICK, "--kind", kind, "--publishers", 2)
    found = outcome.verdict["deliveries"]
    assert (outcome.code, outcome.failures) == (0, "")
    assert found["sent"] == found["accepted"] == 30
    assert found["received"] == 300
    assert found["lost"] == found["duplicated"] == found["reordered"] == 0
    assert found["latency_ms"]["p50"] > 0


@pytest.mark.slow
def test_subscriptions_of_our_relay_agree(tmp_path: Path) -> None:
    with served_relay(tmp_path) as relay:
        # what is stored is not compared
        assert subscription("--url", relay.url, *QUICK).code == 0
        listening = start("subscription", "--json", "-v", "--url", relay.url, "--idle")
        assert listening.stderr is not None
        seen = 0
        while seen < 30:
            assert subscription("--url", relay.url, *QUICK, "--kind", 20001).code == 0
            while seen < 30 and select.select([listening.stderr], [], [], 0)[0]:
                seen += " seen" in listening.stderr.readline()
        listening.send_signal(signal.SIGINT)
        outcome = finish(listening)
    found = outcome.verdict["deliveries"]
    assert (outcome.code, outcome.failures) == (0, "")
    assert found["sent"] is None
    assert found["seen"] >= 30
    assert found["received"] == 10 * found["seen"]


def test_f5_idle_gaps_are_survived() -> None:
    """Two events with silence between: many times the ping interval, and no reason to end."""
    relay = FaultyRelay()
    pings = ("--ping-interval", 0.05, "--ping-timeout", 5)
    outcome = checked(relay, "--rate", 2, "--duration", 1, *pings)
    assert (outcome.code, outcome.failures) == (0, "")
    assert outcome.verdict["deliveries"]["received"] == 8
    assert relay.pings > 10


def test_f5_listening_to_nothing_is_no_failure() -> None:
    outcome = checked(FaultyRelay(), "--idle", "--ping-interval", 0.1)
    assert (outcome.code, outcome.failures) == (0, "")


# Relays that do not.


class DropsEveryTenth(FaultyRelay):
    async def deliver(self, number: int, event: Event) -> None:
        if number % 10:
            await self.deliver_to_all(event)


def test_f5_a_loss_reaches_the_exit_code() -> None:
    with serving(DropsEveryTenth()) as url:
        outcome = finish(start("subscription", "--json", "--url", url, *QUICK))
    assert outcome.code == 1
    assert outcome.failures == "30 deliveries were lost, on 10 of 10 subscriptions"
    assert [one["lost"] for one in outcome.verdict["exceptions"]] == [3] * 10


def test_f5_no_loss_reaches_the_exit_code() -> None:
    with serving(FaultyRelay()) as url:
        outcome = finish(start("subscription", "--json", "--url", url, *QUICK))
    assert (outcome.code, outcome.failures) == (0, "")


def test_a_loss_is_told_to_humans() -> None:
    with serving(DropsEveryTenth()) as url:
        outcome = run("subscription", "--url", url, *QUICK, "-v")
    assert outcome.code == 1
    assert "\nFAILED: 30 deliveries were lost, on 10 of 10 subscriptions\n" in outcome.stdout
    assert "subscription 9: event 20 lost\n" in outcome.stderr
    assert "event 29 " in outcome.stderr


class Duplicates(FaultyRelay):
    async def deliver(self, number: int, event: Event) -> None:
        await self.deliver_to_all(event)
        if number == 7:
            await self.deliver_to_all(event)


def test_f5_a_duplicate_reaches_the_exit_code() -> None:
    outcome = checked(Duplicates())
    assert (outcome.code, outcome.failures) == (1, "4 deliveries were duplicated")


class DuplicatesTheLast(FaultyRelay):
    async def deliver(self, number: int, event: Event) -> None:
        await self.deliver_to_all(event)
        if number == 29:
            await trio.sleep(0.1)
            await self.deliver_to_all(event)


def test_a_duplicate_after_the_last_event_is_waited_for() -> None:
    outcome = checked(DuplicatesTheLast())
    assert (outcome.code, outcome.failures) == (1, "4 deliveries were duplicated")


class Reorders(FaultyRelay):
    held: Event | None = None

    async def deliver(self, number: int, event: Event) -> None:
        if number == 10:
            self.held = event
            return
        await self.deliver_to_all(event)
        if self.held is not None:
            await self.deliver_to_all(self.held)
            self.held = None


def test_another_order_is_told_and_fails_only_where_it_shall() -> None:
    outcome = checked(Reorders())
    assert (outcome.code, outcome.failures) == (0, "")
    assert outcome.verdict["deliveries"]["reordered"] == 4
    assert "4 deliveries were out of order" in outcome.verdict["remarks"][0]
    outcome = checked(Reorders(), "--strict-order")
    assert (outcome.code, outcome.failures) == (1, "4 deliveries were out of order")


class Closes(FaultyRelay):
    async def deliver(self, number: int, event: Event) -> None:
        await self.deliver_to_all(event)
        if number == 10:
            (peer, *_) = [peer for peer in self.peers if peer.subscriptions]
            await self.end(peer)

    async def end(self, peer: Peer) -> None:
        await peer.write(peer.protocol.send(CloseConnection(code=1012, reason="back soon")))
        peer.subscriptions.clear()


class EndsWithoutAWord(Closes):
    async def end(self, peer: Peer) -> None:
        peer.subscriptions.clear()
        await peer.stream.aclose()


@pytest.mark.parametrize(
    ("relay", "how"),
    [
        (Closes(), "the relay closed it: 1012 back soon"),
        (EndsWithoutAWord(), "the relay ended the connection without a Close frame"),
    ],
)
def test_a_connection_that_ends_fails_the_check(relay: FaultyRelay, how: str) -> None:
    outcome = checked(relay)
    assert outcome.code == 1
    assert outcome.failures == f"1 connection ended too early: {how}"
    found = outcome.verdict["deliveries"]
    # what could not come is not called lost
    assert (found["lost"], found["missed"]) == (0, 2 * 19)
    assert [one["has_ended"] for one in outcome.verdict["exceptions"]] == [True, True]


class FallsSilent(FaultyRelay):
    async def deliver(self, number: int, event: Event) -> None:
        await self.deliver_to_all(event)
        if number == 10:
            await trio.sleep_forever()

    async def pinged(self, _peer: Peer, _ping: object) -> None:
        if self.published > 10:
            await trio.sleep_forever()


def test_f5_a_dead_connection_is_told_from_a_quiet_one() -> None:
    patience = ("--ping-interval", 0.2, "--ping-timeout", 0.2, "--settle", 1)
    outcome = checked(FallsSilent(), *patience)
    assert outcome.code == 1
    assert "3 connections ended too early: nothing came for 0." in outcome.failures
    assert "not even the answer to a ping" in outcome.failures


class Refuses(FaultyRelay):
    async def answer(self, peer: Peer, number: int, event: Event) -> None:
        accepted = number % 2 == 0
        await peer.send("OK", event["id"], accepted, "" if accepted else "rate-limited: slow down")

    async def deliver(self, number: int, event: Event) -> None:
        if number % 2 == 0:
            await self.deliver_to_all(event)


def test_a_refused_event_is_no_loss_and_fails_the_check() -> None:
    outcome = checked(Refuses())
    assert outcome.code == 1
    assert outcome.failures == "15 events were refused: rate-limited: slow down"


class NeverAnswers(FaultyRelay):
    async def answer(self, peer: Peer, number: int, event: Event) -> None:
        pass


def test_an_event_without_an_answer_fails_the_check() -> None:
    outcome = checked(NeverAnswers())
    assert (outcome.code, outcome.failures) == (1, "30 events got no answer")


class IsSlow(FaultyRelay):
    async def answer(self, peer: Peer, number: int, event: Event) -> None:
        if number < 5:
            # longer than the whole check should take
            await trio.sleep(0.1)
        await super().answer(peer, number, event)


def test_a_relay_that_holds_a_publisher_up_gets_all_events_nevertheless() -> None:
    # more than may be without an answer
    outcome = checked(IsSlow(), "--rate", 4000, "--settle", 20)
    assert (outcome.code, outcome.failures) == (0, "")
    assert outcome.verdict["deliveries"]["sent"] == 600


class NeedsAuthentication(FaultyRelay):
    async def requested(self, peer: Peer, name: str) -> None:
        await peer.send("AUTH", "challenge")
        await peer.send("CLOSED", name, "auth-required: members only")


def test_a_relay_that_wants_authentication_is_quoted() -> None:
    outcome = checked(NeedsAuthentication())
    assert outcome.code == 1
    assert outcome.failures == (
        "4 subscriptions refused or ended by the relay: CLOSED auth-required: members only"
    )
    assert outcome.verdict["deliveries"]["sent"] == 0


class EndsASubscription(FaultyRelay):
    async def deliver(self, number: int, event: Event) -> None:
        await self.deliver_to_all(event)
        if number == 10:
            for peer in self.peers:
                if peer.subscriptions:
                    await peer.send("CLOSED", peer.subscriptions.pop(), "error: no more of this")


def test_a_subscription_that_is_ended_fails_the_check() -> None:
    outcome = checked(EndsASubscription())
    assert outcome.code == 1
    assert outcome.failures == (
        "2 subscriptions refused or ended by the relay: CLOSED error: no more of this"
    )


class AddsItsOwn(FaultyRelay):
    async def deliver(self, number: int, event: Event) -> None:
        await self.deliver_to_all(event)
        if number == 10:
            await self.deliver_to_all({"id": "f" * 64, "content": "advertisement"})


def test_an_event_that_nobody_asked_for_fails_the_check() -> None:
    outcome = checked(AddsItsOwn())
    assert outcome.code == 1
    assert "4 deliveries were of an event that was not asked for" in outcome.failures


class Babbles(FaultyRelay):
    async def deliver(self, number: int, event: Event) -> None:
        await self.deliver_to_all(event)
        if number == 10:
            await self.peers[0].send("NOTICE", "\x1b[2Jslow\ndown")
            await self.peers[0].send("EVENT")
            await self.peers[0].send({"what": "ever"})


def test_a_relay_that_makes_no_sense_is_quoted_and_cannot_steer_a_terminal() -> None:
    outcome = checked(Babbles())
    assert outcome.code == 1
    assert "2 messages without a meaning" in outcome.failures
    assert outcome.verdict["remarks"] == ["the relay said: \\x1b[2Jslow\\ndown"]


class ServesOneBetter(FaultyRelay):
    """Publishes by itself, to all but its first peer every second event only."""

    async def besides(self) -> None:
        number = 0
        while True:
            await trio.sleep(0.02)
            number += 1
            event: dict[str, Any] = {"id": f"{number:064x}"}
            for index, peer in enumerate(self.peers):
                if index == 0 or number % 2 == 0:
                    for name in peer.subscriptions:
                        await peer.send("EVENT", name, event)


def test_subscriptions_that_disagree_fail_the_check() -> None:
    outcome = checked(ServesOneBetter(), "--idle")
    assert outcome.code == 1
    assert "deliveries were lost, on 2 of 4 subscriptions" in outcome.failures


# Relays that are not there, and users who want something else.


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ws://127.0.0.1:1", "relay: ws://127.0.0.1:1: connection refused\n"),
        ("ws://nowhere.invalid", "relay: ws://nowhere.invalid: its name is not known: "),
        ("http://127.0.0.1:1", "relay: http://127.0.0.1:1 is not a relay's URL: "),
        ("ws://127.0.0.1:99999", "relay: ws://127.0.0.1:99999 is not a relay's URL: "),
        ("ws://", "relay: ws:// is not a relay's URL: "),
    ],
)
@pytest.mark.parametrize("check", ["subscription", "load"])
def test_a_relay_that_is_not_there_is_one_line(check: str, url: str, said: str) -> None:
    outcome = run(check, "--url", url)
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(said)
    assert outcome.stderr.count("\n") == 1


class IsNoRelay(FaultyRelay):
    async def handshake(self, peer: Peer) -> None:
        await peer.stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await peer.stream.aclose()


def test_a_server_that_is_no_relay_is_one_line() -> None:
    outcome = checked(IsNoRelay())
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.endswith(": it answers the handshake with '404 Not Found'\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--kind", 0],
        ["--kind", 10002],
        ["--rate", 0],
        ["--subscriptions", 0],
        ["--duration", "long"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments: list[object]) -> None:
    outcome = subscription(*arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "Usage: relay check subscription" in outcome.stderr


def test_replaceable_kinds_may_be_listened_to() -> None:
    outcome = checked(FaultyRelay(), "--idle", "--kind", 10002)
    assert outcome.code == 0


def test_an_interrupt_ends_it_early_with_the_verdict_so_far() -> None:
    with serving(FaultyRelay()) as url:
        arguments = ("--url", url, "--duration", 600, "--rate", 50, "-v", "--json")
        process = start("subscription", *arguments)
        assert process.stderr is not None
        while "event 9 " not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        outcome = finish(process)
    assert (outcome.code, outcome.failures) == (0, "")
    assert outcome.verdict["was_interrupted"]
    assert 10 <= outcome.verdict["deliveries"]["sent"] < 30_000


def test_a_relay_is_spoken_to_by_tls() -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(CERTIFICATE)
    with serving(FaultyRelay(), tls) as url:
        outcome = subscription("--url", url, *QUICK, SSL_CERT_FILE=str(CERTIFICATE))
    assert (outcome.code, outcome.failures) == (0, "")
    assert outcome.verdict["deliveries"]["received"] == 300


def test_a_certificate_of_nobody_is_refused_in_one_line() -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(CERTIFICATE)
    with serving(FaultyRelay(), tls) as url:
        outcome = subscription("--url", url, *QUICK)
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(f"relay: {url}: its certificate is refused: self")
    assert outcome.stderr.count("\n") == 1


def test_a_relay_without_tls_is_one_line() -> None:
    with serving(FaultyRelay()) as url:
        secure = url.replace("ws:", "wss:")
        outcome = subscription("--url", secure, *QUICK)
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(f"relay: {secure}: ")
    assert outcome.stderr.count("\n") == 1
