"""The relays that the whole suite is run against: ours, as it comes and as operators set it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import trio

from relay.check.address import parse_address
from relay.check.conformance.client import Pace
from relay.check.conformance.run import ConformancePlan, Outcome, check_conformance
from relay.check.conformance.signer import Signer
from relay.check.display import Display
from tests.served import ServedRelay, served_relay

ADMIN = Signer(bytes([7]) * 32)
PACE = Pace(patience=10, quiet=0.15)

PROFILES = {
    # everything that can be switched on, and nobody kept out
    "everything": f"""
        admins = ["{ADMIN.pubkey}"]
        [names._]
        pubkey = "{ADMIN.pubkey}"
        relays = ["wss://relay.example.com"]
        [membership]
        enabled = true
        writing = "everyone"
    """,
    "members only": """
        [limits]
        auth_required = true
    """,
    "small limits": """
        [limits]
        max_limit = 12
        default_limit = 8
        max_subscriptions = 10
        max_event_tags = 50
        max_content_length = 2000
        max_message_length = 20000
        created_at_lower_limit = 3600
    """,
    "proof of work": """
        [limits]
        min_pow_difficulty = 9
        require_pow_commitment = true
    """,
}
"""The settings of each."""
ONLY = {
    "members only": frozenset({11, 42, 45, 70}),
    "small limits": frozenset({11}),
    "proof of work": frozenset({13}),
}
"""The NIPs that a profile is for, where it is not for all."""


@contextlib.contextmanager
def relay_of(profile: str, directory: Path, *, store: str | None = None) -> Iterator[ServedRelay]:
    """Serve our relay with the settings of a profile."""
    (directory / profile).mkdir()
    with served_relay(directory / profile, config=PROFILES[profile], store=store) as relay:
        yield relay


def plan_for(url: str) -> ConformancePlan:
    """Return how our tests try a relay."""
    return ConformancePlan(
        address=parse_address(url), admin=ADMIN, pace=PACE, rule_timeout=40, at_once=6
    )


async def outcome_of(plan: ConformancePlan) -> Outcome:
    """Try a relay."""
    return await check_conformance(plan, Display(is_verbose=False))


def outcomes(directory: Path) -> dict[str, Outcome]:
    """Try our relay with every profile, all at one time."""
    found: dict[str, Outcome] = {}

    async def one(name: str, url: str) -> None:
        plan = msgspec.structs.replace(plan_for(url), nips=ONLY.get(name))
        found[name] = await outcome_of(plan)

    async def everything(urls: dict[str, str]) -> None:
        async with trio.open_nursery() as nursery:
            for name, url in urls.items():
                nursery.start_soon(one, name, url)

    with contextlib.ExitStack() as stack:
        urls = {name: stack.enter_context(relay_of(name, directory)).url for name in PROFILES}
        trio.run(everything, urls)
    return found


def with_rules(plan: ConformancePlan, *rules: str) -> ConformancePlan:
    """Return the plan for these rules alone."""
    return msgspec.structs.replace(plan, rules=frozenset(rules))
