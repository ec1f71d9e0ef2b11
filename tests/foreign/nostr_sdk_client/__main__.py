"""nostr-sdk (Rust) plays scenarios against a relay; see playing.py.

It is a process of its own because nostr-sdk brings its own threads and wants asyncio.
Usage: python -m tests.foreign.nostr_sdk_client URL PROPERTIES SCENARIO…
"""

import asyncio
import json
import os
import sys
from typing import Final

import nostr_sdk as sdk

from tests.foreign.nostr_sdk_client import (
    counting,
    groups,
    membership,
    mining,
    names,
    notes,
    privacy,
    reconciliation,
    removal,
    search,
)
from tests.foreign.nostr_sdk_client.information import information
from tests.foreign.nostr_sdk_client.scene import Scenario, play

SCENARIOS: Final[dict[str, Scenario]] = {
    "notes": notes.notes,
    "deletion": removal.deletion,
    "vanishing": removal.vanishing,
    "expiration": removal.expiration,
    "protection": removal.protection,
    "authentication": privacy.authentication,
    "privacy": privacy.privacy,
    "messages": privacy.messages,
    "counting": counting.counting,
    "information": information,
    "mining": mining.mining,
    "groups": groups.groups,
    "membership": membership.membership,
    "names": names.names,
    "search": search.search,
    "reconciliation": reconciliation.reconciliation,
}


async def main() -> None:
    """Play what the command line asks for."""
    # nostr-sdk calls the authenticator from a thread of its own
    sdk.uniffi_set_event_loop(asyncio.get_running_loop())
    url, properties, *wanted = sys.argv[1:]
    await play(SCENARIOS, url, json.loads(properties), wanted)


asyncio.run(main())
sys.stdout.flush()
# the connections' threads would be waited for
os._exit(0)
