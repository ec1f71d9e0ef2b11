"""Sane defaults: an ordinary composition of the built-in checks."""

from relay.policy.checks import (
    enough_work,
    no_auth_events,
    no_embedded_protected,
    no_search,
    not_expired,
    protected_by_author_only,
    vanish_here,
    within_size,
    within_time,
)
from relay.policy.reading import ReadingRules
from relay.policy.verdict import EventCheck, Policy, RequestCheck
from relay.protocol.event import (
    KIND_AUTH,
    KIND_GENERIC_REPOST,
    KIND_REPOST,
    KIND_VANISH,
)
from relay.protocol.limits import Limits


def default_policy(
    limits: Limits, reading: ReadingRules | None = None, *, search: bool = True
) -> Policy:
    """Return what a public relay accepts: everything valid within `limits`.

    Requests are judged by `reading`, and refused if they search where `search` is switched off.
    """
    always: list[EventCheck] = [
        within_size(limits),
        within_time(limits),
        not_expired,
        protected_by_author_only,
    ]
    if limits.min_pow_difficulty:
        always.append(enough_work(limits))
    checks_of_kinds = {
        KIND_AUTH: (no_auth_events,),
        KIND_REPOST: (*always, no_embedded_protected),
        KIND_GENERIC_REPOST: (*always, no_embedded_protected),
        KIND_VANISH: (*always, vanish_here),
    }
    requests: list[RequestCheck] = [] if reading is None else [reading.judge_request]
    if not search:
        requests.append(no_search)
    return Policy(tuple(always), tuple(requests), checks_of_kinds)
