"""Foreign clients against a relay that asks for proof of work (NIP-13)."""

from typing import Final

import pytest

from tests.foreign.playing import NOSTR_SDK, NOSTR_TOOLS, TIMEOUT, Performance, play, players
from tests.served import served_relay

pytestmark = pytest.mark.timeout(TIMEOUT)

DIFFICULTY: Final = 12
CAST: Final = {NOSTR_TOOLS: ("mining",), NOSTR_SDK: ("mining",)}


@pytest.fixture(scope="module")
def performance(tmp_path_factory: pytest.TempPathFactory) -> Performance:
    config = f"[limits]\nmin_pow_difficulty = {DIFFICULTY}\n"
    with served_relay(tmp_path_factory.mktemp("mining"), config=config) as relay:
        return play(relay.url, CAST, {"difficulty": DIFFICULTY})


@players(CAST, "mining")
def test_mining(performance: Performance, client: str) -> None:
    seen = performance.seen(client, "mining")
    seen.refused("not mined", "pow")
    seen.accepted("mined")
    assert seen["stored"] == ["dear"]
