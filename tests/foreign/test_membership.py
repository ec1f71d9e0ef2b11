"""Foreign clients at a relay that has members (NIP-43) and is managed by one of them (NIP-86)."""

from typing import Final

import coincurve
import pytest

from tests.foreign.playing import NDK, NOSTR_SDK, NOSTR_TOOLS, TIMEOUT, Performance, play, players
from tests.served import served_relay

pytestmark = pytest.mark.timeout(TIMEOUT)

ADMINISTRATOR: Final = coincurve.PrivateKey()
CODE: Final = "sesame seed"
CONFIG: Final = f"""
admins = ["{ADMINISTRATOR.public_key.format()[1:].hex()}"]
[membership]
enabled = true
codes = ["{CODE}"]
"""
CAST: Final = {
    NOSTR_TOOLS: ("membership", "management"),
    NDK: ("membership",),
    NOSTR_SDK: ("membership",),
}


@pytest.fixture(scope="module")
def performance(tmp_path_factory: pytest.TempPathFactory) -> Performance:
    with served_relay(tmp_path_factory.mktemp("members"), config=CONFIG) as relay:
        return play(relay.url, CAST, {"administrator": ADMINISTRATOR.to_hex(), "code": CODE})


@players(CAST, "membership")
def test_membership(performance: Performance, client: str) -> None:
    seen = performance.seen(client, "membership")
    seen.refused("note of a stranger", "restricted")
    seen.refused("join with a wrong code", "restricted")
    seen.accepted("join")
    assert seen["listed"] is True
    seen.accepted("note of a member")
    seen.accepted("leave")
    assert seen["listed after that"] is False
    seen.refused("note of who has left", "restricted")


def test_invites(performance: Performance) -> None:
    """Members are given codes, each for one more member."""
    seen = performance.seen(NOSTR_TOOLS, "membership")
    seen.closed("invite for a stranger", "restricted")
    accepted, reason = seen["join again"]
    assert accepted
    assert reason.startswith("duplicate: ")
    assert seen["invites"] == 1
    seen.accepted("join by invite")
    seen.refused("join by a used invite", "restricted")
    assert seen["another invite differs"] is True
    seen.accepted("note of who was invited")
    assert seen["announced"] == 1


def test_management(performance: Performance) -> None:
    """NIP-86, with tokens of nostr-tools (NIP-98)."""
    seen = performance.seen(NOSTR_TOOLS, "management")
    assert seen["without authorization"] == 401
    assert seen["of a stranger"] in {401, 403}
    assert seen["for another payload"] == 401
    assert {"banpubkey", "banevent", "changerelayname", "blockip"} <= set(seen["methods"])
    for call in ("allowed", "ban of an event", "ban of a pubkey", "unban", "kind disallowed"):
        assert seen[call] is True
    seen.accepted("note")
    assert seen["stored after that"] == []
    seen.refused("banned and published again", "blocked")
    assert seen["banned events"] == [{"id": seen["bad"], "reason": "bad taste"}]
    seen.refused("note of who is banned", "blocked")
    assert seen["banned pubkeys"] == [{"pubkey": seen["pubkey"], "reason": "spam"}]
    seen.accepted("note of who is not banned")
    seen.refused("note of that kind", "blocked")
    assert seen["address blocked"] is True
    assert seen["blocked addresses"] == [{"ip": "192.0.2.7", "reason": "noise"}]
    assert seen["name changed"] is True
    assert seen["name"] == "Renamed by its keeper"
    assert seen["unknown method"] is True
