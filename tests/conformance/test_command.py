"""`relay check conformance` as its users run it: the exit code, and the words."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.check.conformance.catalogue import CHAPTERS
from tests.check.command import Outcome, finish, run, start
from tests.check.faulty import Event, FaultyRelay, Peer, serving
from tests.conformance.profiles import relay_of
from tests.served import free_port

QUICK = ("--patience", 0.4, "--quiet", 0.05)
RULE = "01/an-event-is-answered-by-ok"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with relay_of("everything", tmp_path_factory.mktemp("command")) as relay:
        yield relay.url


def conformance(*arguments: object, **environment: str) -> Outcome:
    return run("conformance", *arguments, **environment)


def test_a_relay_that_passes(url: str) -> None:
    outcome = conformance("--url", url, "--rule", RULE, "--rule", "42/auth-is-answered-by-ok")
    assert outcome.code == 0
    assert "\n  passed            MUST     an-event-is-answered-by-ok\n" in outcome.stdout
    assert "NIP-42" in outcome.stdout
    assert outcome.stdout.endswith("PASSED: nothing that the text demands was broken\n")


class OkOfThree(FaultyRelay):
    async def answer(self, peer: Peer, _number: int, event: Event) -> None:
        await peer.send("OK", event["id"], True)


def test_a_broken_must_reaches_the_exit_code() -> None:
    with serving(OkOfThree()) as url:
        outcome = finish(
            start("conformance", "--url", url, *QUICK, "--rule", "01/ok-has-four-elements")
        )
    assert outcome.code == 1
    assert "FAILED            MUST     ok-has-four-elements" in outcome.stdout
    assert "says      the 4th parameter MUST always be present" in outcome.stdout
    assert 'expected  ["OK", <id>, <true|false>, <message>]' in outcome.stdout
    assert outcome.stdout.endswith("FAILED: 1 rule broken\n")


def test_what_is_recommended_fails_only_if_asked_for() -> None:
    rules = ("--rule", "01/a-duplicate-says-so", "--rule", "01/a-duplicate-is-true", *QUICK)

    class Refuses(FaultyRelay):
        async def answer(self, peer: Peer, number: int, event: Event) -> None:
            await peer.send("OK", event["id"], not number % 2, "error: ")

    with serving(Refuses()) as url:
        lenient = conformance("--url", url, "--at-once", 1, *rules)
        strict = conformance("--url", url, "--at-once", 1, *rules, "--strict")
    assert (lenient.code, strict.code) == (1, 1)
    assert "FAILED: no rule could be tried" in lenient.stdout
    assert "FAILED: 1 rule broken" in strict.stdout
    assert "note: 1 of practice, which no text demands" in strict.stdout


def test_the_transcript_is_shown_to_who_asks() -> None:
    with serving(OkOfThree()) as url:
        arguments = ("--url", url, *QUICK, "--rule", "01/ok-has-four-elements")
        assert '["EVENT",{"id":' not in conformance(*arguments).stdout
        assert re.search(r'#1 → \["EVENT",\{"id":', conformance(*arguments, "-v").stdout)
        found = json.loads(conformance(*arguments, "--json").stdout)
    (finding,) = found["findings"]
    assert (found["passed"], finding["verdict"], finding["level"]) == (False, "failed", "MUST")
    assert [line["direction"] for line in finding["transcript"]][:2] == ["sent", "received"]
    assert found["totals"] == {"failed": 1}


class Dies(FaultyRelay):
    async def handshake(self, peer: Peer) -> None:
        self.met = getattr(self, "met", 0) + 1
        if self.met == 1:
            await super().handshake(peer)
        else:
            await peer.stream.aclose()


def test_a_relay_that_dies_gets_a_verdict() -> None:
    with serving(Dies()) as url:
        outcome = conformance("--url", url, *QUICK, "--rule", RULE)
    assert outcome.code == 1
    assert "inconclusive      MUST     an-event-is-answered-by-ok" in outcome.stdout
    assert "FAILED: the relay cannot be reached any more" in outcome.stdout


def test_a_relay_that_is_not_there() -> None:
    outcome = conformance("--url", f"ws://127.0.0.1:{free_port()}")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.endswith("connection refused\n")


def test_the_list_names_every_rule_with_its_sentence() -> None:
    outcome = conformance("--list")
    assert outcome.code == 0
    for chapter in CHAPTERS:
        for rule in chapter.rules:
            assert f"{rule.level.value:<8} {rule.id}\n           {rule.sentence}" in outcome.stdout
    only = conformance("--list", "--nip", "5,70").stdout
    assert "05/names-are-served" in only
    assert "70/" in only
    assert "01/" not in only


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--nip", "x"], 2, "numbers with commas"),
        (["--nip", "2"], 1, "no rules are known for NIP-02"),
        (["--rule", "01/nothing"], 1, "no rule is called 01/nothing"),
        (["--without", "01/nothing"], 1, "no rule is called 01/nothing"),
        (["--admin-key", "/nowhere"], 2, "/nowhere"),
        (["--url", "http://x"], 1, "is not a relay's URL"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], code: int, words: str) -> None:
    outcome = conformance(*arguments)
    assert outcome.code == code
    assert words in outcome.stderr


def test_the_administrators_key(url: str, tmp_path: Path) -> None:
    rule = ("--url", url, "--rule", "98/a-valid-authorization-is-taken")
    assert "needs an administrator's key" in conformance(*rule).stdout
    key = bytes([7]).hex() * 32
    file = tmp_path / "key"
    file.write_text(f"{key}\n")
    assert conformance(*rule, "--admin-key", file).code == 0
    assert conformance(*rule, CHECK_ADMIN_KEY=key).code == 0
    wrong = conformance(*rule, CHECK_ADMIN_KEY="12" * 31)
    assert wrong.code == 1
    assert "not 64 hexadecimal digits" in wrong.stderr
    assert "1212" not in wrong.stderr
    # somebody who is no administrator
    assert conformance(*rule, CHECK_ADMIN_KEY="08" * 32).code == 1
