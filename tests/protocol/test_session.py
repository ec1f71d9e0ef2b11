import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocol.auth import host_of, names_of
from relay.protocol.event import Event
from relay.protocol.filters import Filter
from relay.protocol.limits import Limits
from relay.protocol.session import (
    MOST_PUBKEYS,
    Action,
    Count,
    EndReconciliation,
    Peer,
    Publish,
    Reconcile,
    ReconcileFurther,
    Refuse,
    RefuseReconciliation,
    Reply,
    Subscribe,
    Unsubscribe,
)
from relay.protocol.verify import SignatureVerifier
from tests.corpus import Author
from tests.strategies import any_messages

NOW = 1_700_000_000
AUTHOR = Author("session")


def peer(**limits: Any) -> Peer:
    return Peer(
        Limits(**limits),
        SignatureVerifier(),
        challenge="the challenge",
        hosts=frozenset(["relay.example"]),
    )


def say(one: Peer, *message: object) -> Action | None:
    return one.receive(json.dumps(message).encode(), NOW)


def reply(action: Action | None) -> list[Any]:
    assert isinstance(action, Reply | Refuse)
    decoded = json.loads(action.text)
    assert isinstance(decoded, list)
    return decoded


def as_json(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def auth(
    author: Author = AUTHOR,
    *,
    kind: int = 22242,
    at: int = NOW,
    challenge: str = "the challenge",
    relay: str = "wss://relay.example/",
) -> dict[str, Any]:
    return as_json(author.sign(kind, "", [["relay", relay], ["challenge", challenge]], at))


def test_subscriptions_open_replace_and_close() -> None:
    one = peer()
    assert isinstance(say(one, "REQ", "a", {}), Subscribe)
    assert isinstance(say(one, "REQ", "a", {"kinds": [1]}), Subscribe)
    assert one.subscriptions == {"a"}
    assert say(one, "CLOSE", "a") == Unsubscribe("a")
    assert say(one, "CLOSE", "a") is None
    assert one.subscriptions == set()


def test_the_limit_on_subscriptions_is_enforced_as_advertised_and_a_close_makes_room() -> None:
    one = peer(max_subscriptions=2)
    say(one, "REQ", "a", {})
    say(one, "REQ", "b", {})
    verb, subscription_id, reason = reply(say(one, "REQ", "c", {}))
    assert (verb, subscription_id) == ("CLOSED", "c")
    assert reason.startswith("restricted: 2 subscriptions")
    assert isinstance(say(one, "REQ", "b", {}), Subscribe), "a replacement needs no room"
    say(one, "CLOSE", "a")
    assert isinstance(say(one, "REQ", "c", {}), Subscribe)


def test_all_open_subscriptions_together_have_a_limit_of_filters() -> None:
    one = peer(max_filters=2, max_subscriptions=100)
    for number in range(10):
        assert isinstance(say(one, "REQ", str(number), {"limit": 1}, {"limit": 2}), Subscribe)
    verb, subscription_id, reason = reply(say(one, "REQ", "more", {}))
    assert (verb, subscription_id) == ("CLOSED", "more")
    assert reason.startswith("restricted: the subscriptions of a connection have at most 20 ")
    assert isinstance(say(one, "REQ", "0", {}), Subscribe), "a replacement has its own room"
    assert isinstance(say(one, "REQ", "more", {}), Subscribe)
    assert reply(say(one, "REQ", "0", {}, {"limit": 1}))[0] == "CLOSED"
    assert "0" not in one.subscriptions, "CLOSED says that nothing is open under it"
    one.ended("1")
    say(one, "CLOSE", "2")
    say(one, "CLOSE", "2")
    for number in range(2):
        assert isinstance(say(one, "REQ", f"again {number}", {}, {"limit": 1}), Subscribe)
    assert reply(say(one, "REQ", "too many", {}, {"limit": 1}))[0] == "CLOSED"


def test_all_open_filters_together_have_a_limit_of_values() -> None:
    one = peer(max_filter_values=3)
    three = {"kinds": [1, 2], "#t": ["x"]}
    for number in range(10):
        assert isinstance(say(one, "REQ", str(number), three), Subscribe)
    verb, subscription_id, reason = reply(say(one, "REQ", "more", {"ids": ["0" * 64]}))
    assert (verb, subscription_id) == ("CLOSED", "more")
    assert reason.startswith("restricted: the filters of a connection's subscriptions hold at most")
    assert isinstance(say(one, "REQ", "more", {"since": 1}), Subscribe), "it holds no value"
    assert isinstance(say(one, "REQ", "0", {"authors": ["0" * 64]}), Subscribe)
    assert isinstance(say(one, "REQ", "more", {"#e": ["0" * 64], "#p": ["0" * 64]}), Subscribe)
    assert reply(say(one, "REQ", "more", {"ids": ["0" * 64]}, three))[0] == "CLOSED"


def test_one_request_may_be_as_large_as_the_limits_of_a_request_allow() -> None:
    limits = Limits()
    assert limits.max_open_filters >= limits.max_filters
    assert limits.max_open_values >= limits.max_filter_values


def test_what_the_relay_ended_is_not_open_any_more() -> None:
    one = peer(max_subscriptions=1)
    say(one, "REQ", "a", {})
    one.ended("a")
    assert say(one, "CLOSE", "a") is None
    assert isinstance(say(one, "REQ", "b", {}), Subscribe)


def test_a_count_is_no_subscription() -> None:
    one = peer()
    assert isinstance(say(one, "COUNT", "q", {}), Count)
    assert one.subscriptions == set()


def test_several_pubkeys_authenticate_and_all_count() -> None:
    one = peer()
    for seed in ("x", "y"):
        proof = auth(Author(seed))
        assert reply(say(one, "AUTH", proof)) == ["OK", proof["id"], True, ""]
    assert one.authenticated == {Author("x").pubkey, Author("y").pubkey}


def test_so_many_pubkeys_authenticate_and_no_more() -> None:
    one = peer()
    for seed in range(MOST_PUBKEYS):
        assert reply(say(one, "AUTH", auth(Author(seed))))[2] is True
    proof = auth(Author("one too many"))
    _, _, accepted, reason = reply(say(one, "AUTH", proof))
    assert not accepted
    assert reason.startswith("restricted: 100 pubkeys")
    assert len(one.authenticated) == MOST_PUBKEYS
    assert reply(say(one, "AUTH", auth(Author(0))))[2] is True, "it has proven itself before"


@pytest.mark.parametrize(
    "proof",
    [
        auth(kind=1),
        auth(at=NOW - 601),
        auth(at=NOW + 601),
        auth(challenge="another"),
        auth(relay="wss://elsewhere.example"),
        auth(relay=""),
        auth(relay="wss://[half"),
        as_json(AUTHOR.sign(22242, "", [], NOW)),
        auth() | {"sig": "0" * 128},
        auth() | {"pubkey": Author("victim").pubkey},
    ],
)
def test_an_auth_that_proves_nothing_is_answered_by_ok_false(proof: dict[str, Any]) -> None:
    one = peer()
    verb, event_id, accepted, reason = reply(say(one, "AUTH", proof))
    assert (verb, event_id, accepted) == ("OK", proof["id"], False)
    assert reason.startswith("invalid: ")
    assert one.authenticated == set()


def test_where_auth_is_required_nothing_else_comes_first() -> None:
    one = peer(auth_required=True)
    note = as_json(AUTHOR.sign(1, "x"))
    assert reply(say(one, "EVENT", note))[2:] == [False, reply(say(one, "EVENT", note))[3]]
    assert reply(say(one, "EVENT", note))[3].startswith("auth-required: ")
    assert reply(say(one, "REQ", "a", {}))[2].startswith("auth-required: ")
    assert reply(say(one, "COUNT", "a", {}))[2].startswith("auth-required: ")
    assert one.subscriptions == set()
    say(one, "AUTH", auth())
    assert isinstance(say(one, "EVENT", note), Publish)
    assert isinstance(say(one, "REQ", "a", {}), Subscribe)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("wss://Relay.Example:443/path?x", "relay.example"),
        ("relay.example:7777", "relay.example"),
        ("ws://[::1]:7777", "::1"),
        ("wss://relay.example.", "relay.example"),
        ("WSS://RELAY.EXAMPLE", "relay.example"),
        ("wss://relay.example/", "relay.example"),
        ("wss://relay.example:443/", "relay.example"),
        ("wss://relay.example/@user?to=a@b", "relay.example"),
        ("wss://[::1]/", "::1"),
        ("wss://[2001:DB8:0:0::1]:7777", "2001:db8::1"),
        ("[2001:db8::1]:7777", "2001:db8::1"),
        ("127.0.0.1:7777", "127.0.0.1"),
        ("wss://münchen.example", "xn--mnchen-3ya.example"),
        ("wss://MÜNCHEN.example/", "xn--mnchen-3ya.example"),
        ("wss://xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("wss://日本.example.", "xn--wgv71a.example"),
        # who reads which host in these differs from program to program
        ("wss://relay.example@elsewhere.example", None),
        ("wss://elsewhere.example\\@relay.example", None),
        ("wss://elsewhere.example\\.relay.example", None),
        ("wss://relay.example\n.elsewhere.example", None),
        ("wss://relay.example elsewhere", None),
        ("wss://..example", "..example"),
        ("wss://ü..example", None),
        (f"wss://{'ü' * 80}.example", None),
        ("", None),
        ("wss://", None),
        ("wss://[half", None),
    ],
)
def test_host_names_are_compared_without_case_port_and_path(url: str, host: str | None) -> None:
    assert host_of(url) == host


@pytest.mark.parametrize(
    ("public_url", "dialled", "is_local", "names"),
    [
        # unknown: what was dialled must be believed
        (None, "relay.example", False, {"relay.example"}),
        (None, "Elsewhere.Example:7777", False, {"elsewhere.example"}),
        (None, "", False, set()),
        # known: nothing else counts
        ("wss://Relay.Example/", "relay.example", False, {"relay.example"}),
        ("wss://relay.example", "elsewhere.example", False, {"relay.example"}),
        ("wss://relay.example", "elsewhere.example", True, {"relay.example"}),
        ("wss://relay.example", "", True, {"relay.example"}),
        # but for who is here, and sees the relay here
        ("wss://relay.example", "127.0.0.1:7777", True, {"relay.example", "127.0.0.1"}),
        ("wss://relay.example", "localhost:7777", True, {"relay.example", "localhost"}),
        ("wss://relay.example", "[::1]:7777", True, {"relay.example", "::1"}),
        ("wss://relay.example", "localhost", False, {"relay.example"}),
        ("wss://relay.example", "192.0.2.1", True, {"relay.example"}),
    ],
)
def test_the_names_under_which_the_relay_is_reached(
    public_url: str | None, dialled: str, names: set[str], *, is_local: bool
) -> None:
    assert names_of(public_url, dialled, is_local=is_local) == names


@given(st.lists(any_messages, max_size=12))
@settings(max_examples=400, deadline=None)
def test_any_conversation_keeps_the_machine_consistent(conversation: list[bytes]) -> None:
    one = peer(max_subscriptions=3)
    open_ids: set[str] = set()
    for text in conversation:
        action = one.receive(text, NOW)
        if isinstance(action, Subscribe):
            open_ids.add(action.subscription_id)
        elif isinstance(action, Unsubscribe):
            open_ids.remove(action.subscription_id)
        elif isinstance(action, Refuse):
            assert json.loads(action.text)[:2] == ["CLOSED", action.subscription_id]
            open_ids.discard(action.subscription_id)
        elif isinstance(action, RefuseReconciliation):
            assert json.loads(action.text)[:2] == ["NEG-ERR", action.reconciliation_id]
        elif isinstance(action, Reply):
            assert json.loads(action.text)[0] in ("OK", "CLOSED", "NOTICE")
        assert one.subscriptions == open_ids
        assert len(open_ids) <= 3


@pytest.mark.parametrize("bad", [[], [{"kinds": ["1"]}], [[]], [1], [{}] * 20], ids=repr)
def test_a_request_that_is_refused_ends_what_was_open_under_its_id(bad: list[Any]) -> None:
    one = peer(max_filters=10)
    say(one, "REQ", "a", {})
    say(one, "REQ", "b", {})
    action = say(one, "REQ", "a", *bad)
    assert isinstance(action, Refuse)
    assert action.subscription_id == "a"
    assert reply(action)[:2] == ["CLOSED", "a"]
    assert set(one.subscriptions) == {"b"}
    # a count of the same name is another matter
    assert isinstance(say(one, "COUNT", "b", *bad), Reply)
    assert set(one.subscriptions) == {"b"}


def test_negentropy_has_ids_of_its_own() -> None:
    one = peer(max_subscriptions=1)
    say(one, "REQ", "a", {})
    opened = say(one, "NEG-OPEN", "a", {"kinds": [1]}, "61")
    assert opened == Reconcile("a", Filter(kinds=frozenset([1])), b"a")
    assert say(one, "NEG-MSG", "a", "6100") == ReconcileFurther("a", b"a\0")
    assert say(one, "NEG-CLOSE", "a") == EndReconciliation("a")
    assert set(one.subscriptions) == {"a"}
    assert isinstance(say(one, "NEG-OPEN", "a", {}, "x"), RefuseReconciliation)
    assert set(one.subscriptions) == {"a"}


def test_negentropy_is_for_the_authenticated_where_everything_is() -> None:
    one = peer(auth_required=True)
    action = say(one, "NEG-OPEN", "a", {}, "61")
    assert isinstance(action, RefuseReconciliation)
    said, name, reason = json.loads(action.text)
    assert (said, name) == ("NEG-ERR", "a")
    assert reason.startswith("auth-required: ")
