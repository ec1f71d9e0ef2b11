"""Sane defaults: an ordinary composition of the built-in checks."""

from relay.policy.checks import (
    enough_work,
    no_auth_events,
    no_embedded_protected,
    not_expired,
    protected_by_author_only,
    within_size,
    within_time,
)
from relay.policy.verdict import EventCheck, Policy
from relay.protocol.limits import Limits


def default_policy(limits: Limits) -> Policy:
    """Return what a public relay accepts: everything valid within `limits`."""
    checks: list[EventCheck] = [
        no_auth_events,
        within_size(limits),
        within_time(limits),
        not_expired,
        protected_by_author_only,
        no_embedded_protected,
    ]
    if limits.min_pow_difficulty:
        checks.append(enough_work(limits))
    return Policy(event_checks=tuple(checks))
