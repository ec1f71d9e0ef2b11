"""Foreign clients against a relay that is open to all: what any client asks of any relay."""

from typing import Final

import pytest

from tests.foreign.open_relay import ALICE, CAST, DOMAIN
from tests.foreign.playing import NDK, NOSTR_SDK, NOSTR_TOOLS, TIMEOUT, Performance, players

pytestmark = pytest.mark.timeout(TIMEOUT)

NOTES: Final = 100


def newest_first(written: list[tuple[str, int, str]]) -> list[str]:
    """Return the names in the order of NIP-01: newest first, ties by the lowest id."""
    return [name for name, _, _ in sorted(written, key=lambda each: (-each[1], each[2]))]


@players(CAST, "notes")
def test_notes(at_open_relay: Performance, client: str) -> None:
    """NIP-01: every event once, live in the order of publishing, stored newest first."""
    seen = at_open_relay.seen(client, "notes")
    assert seen["accepted"] == NOTES
    assert seen["live"] == [f"note {number}" for number in range(NOTES)]
    assert seen["stored"] == newest_first(seen["written"])
    assert seen["limited"] == seen["stored"][:7]
    assert seen["verified"] == NOTES
    assert seen["counted"] == NOTES
    accepted, reason = seen["again"]
    assert accepted
    assert reason.startswith("duplicate:")
    if client != NOSTR_SDK:  # which sends no event that it finds invalid
        seen.refused("forged", "invalid")
    assert seen["replaceable"] == ["profile 3"]
    assert seen["addressable a"] == ["article a 2"]
    assert seen["addressable b"] == ["article b 1"]
    assert seen["ephemeral, live"] == ["ephemeral"]
    assert seen["ephemeral, stored"] == []


@players(CAST, "deletion")
def test_deletion(at_open_relay: Performance, client: str) -> None:
    """NIP-09: by id and by address, by the author alone, and for good."""
    seen = at_open_relay.seen(client, "deletion")
    assert seen["before"] == ["version", "second", "first"]
    assert seen["after the request of another"] == seen["before"]
    seen.accepted("request")
    assert seen["after the request"] == ["version", "second"]
    seen.refused("published again", "blocked")
    assert seen["after that"] == ["version", "second"]
    assert seen["after a request by address"] == ["second"]
    seen.refused("old version again", "blocked")
    seen.accepted("newer version")
    assert seen["after the newer version"] == ["newer version", "second"]
    assert seen["the request, once deleted"] == ["request"]


@players(CAST, "expiration")
def test_expiration(at_open_relay: Performance, client: str) -> None:
    """NIP-40: refused when late, gone when due."""
    seen = at_open_relay.seen(client, "expiration")
    seen.refused("expired", "invalid")
    seen.accepted("expiring")
    assert seen["before"] == ["event"]
    assert seen["after"] == []
    assert seen["counted after"] == 0


@players(CAST, "protection")
def test_protection(at_open_relay: Performance, client: str) -> None:
    """NIP-70: by its author alone, who has to say who he is."""
    seen = at_open_relay.seen(client, "protection")
    seen.refused("by nobody in particular", "auth-required")
    seen.refused("by another", "restricted")
    seen.accepted("by its author")
    assert seen["stored"] == ["event"]
    seen.refused("in a repost", "blocked")


@players(CAST, "authentication")
def test_authentication(at_open_relay: Performance, client: str) -> None:
    """NIP-42: a client with a signer finds its way through `auth-required:` by itself."""
    seen = at_open_relay.seen(client, "authentication")
    assert seen["without a signer"]["closed"].startswith("auth-required: ")
    assert seen["with a signer"] == ["letter"]
    assert seen["published with a signer"] is True


@players(CAST, "privacy")
def test_privacy(at_open_relay: Performance, client: str) -> None:
    """NIP-04, NIP-59: for those it is meant for, stored, live and counted."""
    seen = at_open_relay.seen(client, "privacy")
    private = ["wrap", "letter"]
    assert seen["live to the recipient"] == [*private, "note", "passing wrap", "end"]
    assert seen["stored, for the recipient"] == ["note", "letter", "wrap"]
    assert seen["wraps, for the recipient"] == ["wrap"]
    assert seen["by id, for the recipient"] == ["note", "letter", "wrap"]
    assert seen["counted by the recipient"] == 1
    for party, prefix in (("other", "restricted"), ("stranger", "auth-required")):
        assert seen[f"live to the {party}"] == ["note", "end"]
        assert seen[f"stored, for the {party}"] == ["note"]
        assert seen[f"by id, for the {party}"] == ["note"]
        seen.closed(f"wraps, for the {party}", prefix)
        if client == NOSTR_TOOLS:  # the others do not say why a count was refused
            seen.closed(f"counted by the {party}", prefix)


@players(CAST, "messages")
def test_messages(at_open_relay: Performance, client: str) -> None:
    """NIP-17: two people write to each other, and have copies of what they wrote."""
    seen = at_open_relay.seen(client, "messages")
    written = [["alice", 14, "hello 🤙"], ["bob", 14, "hello yourself"]]
    assert seen["alice has"] == written
    assert seen["bob has"] == written


@players(CAST, "counting")
def test_counting(at_open_relay: Performance, client: str) -> None:
    """NIP-45: exact counts, without double counting."""
    seen = at_open_relay.seen(client, "counting")
    assert seen["count"] == 12
    if client != NOSTR_SDK:  # which reads the number only
        # each register that two of the twelve share makes it one less; five do in one of 10^5 runs
        assert abs(seen["estimate"] - 12) <= 4
    if client == NOSTR_TOOLS:
        assert seen["registers as the client makes them"] is True
        assert seen["two filters"] == 13
        assert seen["reactions by the pool"] == 12
        seen.closed("private", "auth-required")


@players(CAST, "information")
def test_information(at_open_relay: Performance, client: str) -> None:
    """NIP-11: a document that the client can read."""
    seen = at_open_relay.seen(client, "information")
    assert seen["name"] == "trio-relay"
    assert {1, 9, 11, 40, 42, 45, 70} <= set(seen["supported"])
    assert seen["max_limit"] == 5000


@players(CAST, "names")
def test_names(at_open_relay: Performance, client: str) -> None:
    """NIP-05: names that the client looks up by itself."""
    seen = at_open_relay.seen(client, "names")
    assert seen["alice"]["pubkey"] == ALICE
    assert not seen["alice"].get("relays")
    assert seen["nobody"] is None
    assert seen["the domain"]["pubkey"] == DOMAIN
    assert [each.rstrip("/") for each in seen["the domain"]["relays"]] == ["wss://one.example"]
    if client == NOSTR_TOOLS:
        assert seen["asked for alice"] == {"alice": ALICE}


@players(CAST, "reconciliation")
def test_reconciliation(at_open_relay: Performance, client: str) -> None:
    """NIP-77: exactly what one side has and the other has not."""
    seen = at_open_relay.seen(client, "reconciliation")
    assert seen["only here"] == sorted(f"ours {number}" for number in range(10))
    assert seen["only there"] == sorted(f"theirs {number}" for number in range(10))
    if client == NDK:
        assert seen["supported"] is True
        assert seen["fetched"] == seen["only there"]
    else:
        seen.closed("private", "auth-required")
    if client == NOSTR_SDK:
        assert seen["here afterwards"] == seen["there afterwards"] == 110


@players(CAST, "search")
def test_search(at_open_relay: Performance, client: str) -> None:
    """NIP-50: by words in any order, with all other fields of a filter."""
    seen = at_open_relay.seen(client, "search")
    assert seen["one word"] == ["article", "both", "orange"]
    assert seen["two words"] == ["article", "both"]
    assert seen["of a kind"] == ["article"]
    assert seen["with an extension"] == seen["one word"]
    assert seen["limited"] == 1
    assert seen["nothing"] == []
    assert seen["counted"] == 3


@players(CAST, "vanishing")
def test_vanishing(at_open_relay: Performance, client: str) -> None:
    """NIP-62: everything goes, gift wraps to the author too, and nothing comes back."""
    seen = at_open_relay.seen(client, "vanishing")
    assert seen["before"] == ["deletion", "note", "reply", "wrap"]
    assert seen["after a request to another relay"] == seen["before"]
    seen.accepted("request")
    assert seen["after the request"] == ["reply"]
    seen.refused("published again", "blocked")
    seen.refused("wrap published again", "blocked")
    assert seen["after that"] == ["reply"]
    seen.accepted("a newer note")
    seen.accepted("request to all")
    assert seen["after the request to all"] == []
