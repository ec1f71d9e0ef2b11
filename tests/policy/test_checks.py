import json
from collections.abc import Sequence

import pytest

from relay.policy.defaults import default_policy
from relay.policy.verdict import Rejection
from relay.protocol.event import Event, canonical_json
from relay.protocol.filters import Filter
from relay.protocol.limits import Limits
from tests.corpus import Author

NOW = 1_700_000_000
AUTHOR = Author("policy")
ELSEWHERE = "invalid: this request to vanish names other relays only"


class Somebody:
    def __init__(self, *authenticated: str) -> None:
        self.address = "192.0.2.1"
        self.authenticated = frozenset(authenticated)
        self.hosts = frozenset({"relay.example.com"})


def judge(event: Event, *authenticated: str, **limits: int) -> str | None:
    policy = default_policy(Limits(**limits))  # type: ignore[arg-type]  # the tests' own values
    verdict = policy.judge_event(event, Somebody(*authenticated), NOW)
    return None if verdict is None else verdict.reason


def note(content: str = "", tags: Sequence[Sequence[str]] = (), at: int = NOW) -> Event:
    return AUTHOR.sign(1, content, tags, at)


def test_an_ordinary_note_is_accepted() -> None:
    assert judge(note("hello", [["t", "x"]])) is None


@pytest.mark.parametrize(
    ("event", "limits", "prefix"),
    [
        (note(at=NOW + 901), {}, "invalid: created_at"),
        (note(at=NOW - 101), {"created_at_lower_limit": 100}, "invalid: created_at"),
        (note("x" * 11), {"max_content_length": 10}, "invalid: the content"),
        (note("", [["t", "x"]] * 3), {"max_event_tags": 2}, "invalid: 3 tags"),
        (note(), {"min_pow_difficulty": 200}, "pow: difficulty"),
        (note("", [["expiration", str(NOW)]]), {}, "invalid: the event has expired"),
        (AUTHOR.sign(22242, "", [], NOW), {}, "invalid: kind 22242"),
        (note("", [["-"]]), {}, "auth-required: "),
    ],
)
def test_a_refusal_has_its_prefix(event: Event, limits: dict[str, int], prefix: str) -> None:
    reason = judge(event, **limits)
    assert reason is not None
    assert reason.startswith(prefix)


def test_the_edges_of_the_limits_are_accepted() -> None:
    assert judge(note(at=NOW + 900)) is None
    assert judge(note(at=NOW - 100), created_at_lower_limit=100) is None
    assert judge(note("é" * 10), max_content_length=10) is None
    assert judge(note("", [["expiration", str(NOW + 1)]])) is None


def test_work_is_counted_in_bits_not_in_digits() -> None:
    mined = next(e for n in range(10_000) if (e := note(str(n))).id.startswith("01"))
    assert judge(mined, min_pow_difficulty=7) is None
    assert judge(mined, min_pow_difficulty=8) == "pow: difficulty 7 is less than 8"


@pytest.mark.parametrize(
    ("nonce", "reason"),
    [
        (["nonce", "{}", "8"], None),
        (["nonce", "{}", "30"], None),
        (["nonce", "{}", "7"], "pow: the committed difficulty 7 is less than 8"),
        (["nonce", "{}"], "pow: the nonce tag must commit to a difficulty of 8"),
        (["nonce", "{}", "many"], "pow: the nonce tag must commit to a difficulty of 8"),
        (["t", "{}", "8"], "pow: the nonce tag must commit to a difficulty of 8"),
    ],
)
def test_the_committed_difficulty_counts_if_asked_for(nonce: list[str], reason: str | None) -> None:
    mined = next(
        event
        for number in range(10_000)
        if (event := note("", [[part.format(number) for part in nonce]])).id.startswith("00")
    )
    assert judge(mined, min_pow_difficulty=8) is None
    assert judge(mined, min_pow_difficulty=8, require_pow_commitment=True) == reason


def test_more_work_than_was_committed_to_does_not_make_up_for_it() -> None:
    lucky = next(
        e for n in range(10_000) if (e := note("", [["nonce", str(n), "1"]])).id.startswith("0")
    )
    assert judge(lucky, min_pow_difficulty=2, require_pow_commitment=True) is not None


@pytest.mark.parametrize(
    ("relays", "reason"),
    [
        (["wss://relay.example.com"], None),
        (["wss://RELAY.example.com:444/path"], None),
        (["wss://elsewhere.example.com", "wss://relay.example.com/"], None),
        (["ALL_RELAYS"], None),
        (["wss://elsewhere.example.com", "ALL_RELAYS"], None),
        (["all_relays"], ELSEWHERE),
        (
            ["wss://elsewhere.example.com"],
            ELSEWHERE,
        ),
        (
            ["wss://relay.example.com.evil.com"],
            ELSEWHERE,
        ),
        (["http://[::1"], ELSEWHERE),
        ([""], ELSEWHERE),
        ([], "invalid: a request to vanish must name a relay"),
    ],
)
def test_a_request_to_vanish_names_this_relay_or_all(relays: list[str], reason: str | None) -> None:
    request = AUTHOR.sign(62, "", [["relay", relay] for relay in relays], NOW)
    assert judge(request) == reason
    # who asks need not be in good standing, nor have worked for it
    assert judge(request, min_pow_difficulty=200, require_pow_commitment=True) == reason


def test_a_relay_tag_without_a_value_names_no_relay() -> None:
    request = AUTHOR.sign(62, "", [["relay"], ["r", "ALL_RELAYS"]], NOW)
    assert judge(request) == "invalid: a request to vanish must name a relay"


def test_only_a_tag_of_one_item_protects() -> None:
    assert judge(note("", [["-", "x"], ["t", "-"], ["--"]])) is None


def test_a_protected_event_is_taken_from_its_authenticated_author_only() -> None:
    protected = note("members only", [["-"]])
    assert judge(protected, AUTHOR.pubkey) is None
    assert judge(protected, Author("pirate").pubkey, AUTHOR.pubkey) is None
    refused = judge(protected, Author("pirate").pubkey)
    assert refused is not None
    assert refused.startswith("restricted: ")


@pytest.mark.parametrize("kind", [6, 16])
def test_a_repost_must_not_embed_a_protected_event(kind: int) -> None:
    protected = canonical_json(note("members only", [["t", "x"], ["-"]])).decode()
    open_one = canonical_json(note('"-"', [["t", "-"]])).decode()
    reason = judge(AUTHOR.sign(kind, protected, [], NOW))
    assert reason is not None
    assert reason.startswith("blocked: ")
    for spelled in (
        protected.replace('"-"', '"\\u002d"'),
        protected.replace('["-"]', '[\n "-" ]').replace(":", " : "),
        protected.replace('[["t","x"]', '[[1],["t","x"]'),
        " \n" + protected + " ",
        '{"tags":[["-"]]}',
    ):
        assert judge(AUTHOR.sign(kind, spelled, [], NOW)) == reason, spelled
    assert judge(AUTHOR.sign(kind, open_one, [], NOW)) is None
    assert judge(AUTHOR.sign(kind, '{"tags":[["-","x"],["x","-"]]}', [], NOW)) is None
    assert judge(AUTHOR.sign(kind, "", [], NOW)) is None
    assert judge(AUTHOR.sign(1, protected, [], NOW)) is None, "a note may quote what it likes"


@pytest.mark.parametrize(
    "content", ['"-"', "[" * 5000 + '"-"', '{"tags":5,"x":"-"}', json.dumps({"tags": [["-"]]})[:-1]]
)
def test_a_repost_of_nonsense_is_just_a_repost(content: str) -> None:
    assert judge(AUTHOR.sign(6, content, [], NOW)) is None


def test_a_search_is_refused_where_search_is_switched_off() -> None:
    policy = default_policy(Limits(), search=False)
    assert policy.judge_request((Filter(),), Somebody(), NOW) is None
    searching = (Filter(), Filter(search="nostr"))
    assert policy.judge_request(searching, Somebody(), NOW) == Rejection(
        "unsupported: search is switched off"
    )
    assert default_policy(Limits()).judge_request(searching, Somebody(), NOW) is None
