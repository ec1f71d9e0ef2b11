"""A relay that is open to all, with all that is on without being asked for; and who plays there."""

from typing import Final

from tests.foreign.playing import NDK, NOSTR_SDK, NOSTR_TOOLS

ALICE: Final = f"{1:064x}"
DOMAIN: Final = f"{2:064x}"
CONFIG: Final = f"""
[names]
alice = "{ALICE}"
_ = {{ pubkey = "{DOMAIN}", relays = ["wss://one.example"] }}
"""
SCENARIOS: Final = (
    "notes",
    "deletion",
    "expiration",
    "protection",
    "authentication",
    "privacy",
    "messages",
    "counting",
    "information",
    "names",
    "search",
    "reconciliation",
    "groups",
    "vanishing",
)
CAST: Final = {NOSTR_TOOLS: SCENARIOS, NDK: SCENARIOS, NOSTR_SDK: SCENARIOS}
PROPERTIES: Final = {"common": 90, "missing": 10}
"""How many events client and relay have in common when they reconcile, and how many each alone."""
