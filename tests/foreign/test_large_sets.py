"""Foreign clients reconcile (NIP-77) sets that take several rounds."""

from pathlib import Path
from typing import Final

import pytest

from tests.foreign.playing import CLIENTS, TIMEOUT, play
from tests.served import served_relay

pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT)]

LARGEST: Final = 2_000


@pytest.mark.parametrize("client", CLIENTS)
def test_large_sets_are_reconciled(tmp_path: Path, scale: float, client: str) -> None:
    common = max(200, int(LARGEST * scale))
    missing = common // 20
    with served_relay(tmp_path) as relay:
        sizes = {"common": common, "missing": missing}
        performance = play(relay.url, {client: ("reconciliation",)}, sizes)
    seen = performance.seen(client, "reconciliation")
    assert seen["only here"] == sorted(f"ours {number}" for number in range(missing))
    assert seen["only there"] == sorted(f"theirs {number}" for number in range(missing))
