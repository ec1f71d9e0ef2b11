"""Is an event in its place? References to earlier events, and late publication (NIP-29).

Both keep what is written for one group from being taken out of its context: carried to a fork of
the group, or slipped into its past.
"""

import re
from typing import Final

from relay.policy.groups.refusal import Refused
from relay.policy.groups.surroundings import Surroundings
from relay.protocol.event import Event

_MOST_REFERENCES: Final = 50
"""References are to the last 50 events that somebody has seen, so there cannot be more."""
_is_reference: Final = re.compile(r"[0-9a-f]{8}").fullmatch


def demand_timely(around: Surroundings, event: Event, now: int) -> None:
    """Refuse what was written too long ago. Raises `Refused`."""
    limit = around.settings.late_publication_limit
    if limit is not None and event.created_at < now - limit:
        raise Refused(f"invalid: events for a group must not be older than {limit} s")


def demand_references(around: Surroundings, event: Event, *, at_least: int = 0) -> None:
    """Refuse references to what is not stored here, and fewer than wanted. Raises `Refused`."""
    if not at_least and not any(tag[0] == "previous" for tag in event.tags):
        return
    references = {value for tag in event.tags if tag[0] == "previous" for value in tag[1:]}
    if len(references) > _MOST_REFERENCES:
        raise Refused(f"invalid: at most {_MOST_REFERENCES} events can be named as previous")
    for reference in references:
        if not _is_reference(reference):
            raise Refused("invalid: previous must hold the first 8 characters of ids")
        if not around.archive.holds_id(reference):
            raise Refused(f"invalid: previous names {reference}, which is not on this relay")
    if len(references) < at_least:
        raise Refused(f"invalid: previous must name at least {at_least} earlier events")
