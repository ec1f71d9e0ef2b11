"""From what was counted to a verdict: what fails a check, and in which words.

A check fails when a delivery was lost or duplicated, and when it could not find out: events that
were refused or never answered, connections and subscriptions that ended, nobody who listened.
An order other than that of publishing is told, and fails only where that is asked for: NIP-01
promises none for new events, and relays that batch give none.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from relay.check.incidents import Incidents
from relay.check.ledger import Ledger
from relay.check.server_state import ServerState

_REASONS_SHOWN: Final = 3
_LISTED: Final = 1_000


class Deliveries(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of a ledger. Of events: up to `unanswered`; of deliveries: the others."""

    connections: int
    """That listened, at the end."""
    subscriptions: int
    seen: int | None = None
    """Events of others, where the check only listened."""
    sent: int | None = None
    """Events of our own, where it published; so are the next three."""
    accepted: int | None = None
    refused: int | None = None
    unanswered: int | None = None
    received: int
    lost: int
    missed: int
    """What did not arrive on subscriptions because these had ended."""
    duplicated: int
    reordered: int
    unexpected: int
    latency_ms: dict[str, float]
    """From publishing, or from the first arrival on any subscription, to each delivery."""


class Exceptions(msgspec.Struct, frozen=True, kw_only=True):
    """What was not right on one subscription."""

    subscription: int
    lost: int
    duplicated: int
    reordered: int
    unexpected: int
    has_ended: bool


class Churn(msgspec.Struct, frozen=True, kw_only=True):
    """What became of connections that came and went."""

    connects: int
    completed: int
    """That got their EOSE before they left."""
    per_second: float


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The relay's own state; what is `None` was not available."""

    before: ServerState | None
    during: ServerState | None
    after: ServerState | None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a check."""

    check: str
    url: str
    passed: bool
    was_interrupted: bool
    seconds: float
    """From the first event to the last one that was waited for."""
    failures: list[str]
    remarks: list[str]
    """What is worth knowing and fails nothing."""
    deliveries: Deliveries | None = None
    exceptions: list[Exceptions] = []
    churn: Churn | None = None
    server: Server | None = None


def deliveries_of(ledger: Ledger, connections: int, *, published: bool) -> Deliveries:
    """Return the sums of `ledger`; its events were `published`, or seen."""
    times = ledger.latencies
    return Deliveries(
        connections=connections,
        subscriptions=ledger.subscriptions,
        seen=None if published else ledger.sent_count,
        sent=ledger.sent_count if published else None,
        accepted=ledger.accepted_count if published else None,
        refused=ledger.refused.total() if published else None,
        unanswered=ledger.unanswered_count if published else None,
        received=ledger.received_count,
        lost=sum(ledger.lost().values()),
        missed=ledger.missed_count(),
        duplicated=ledger.duplicated.total(),
        reordered=ledger.reordered.total(),
        unexpected=ledger.unexpected.total(),
        latency_ms={
            **{f"p{percent}": times.percentile(percent) for percent in (50, 90, 99)},
            "longest": times.longest,
        },
    )


def exceptions_of(ledger: Ledger) -> list[Exceptions]:
    """Return the subscriptions on which something was not right, 1,000 at most."""
    lost = ledger.lost()
    return [
        Exceptions(
            subscription=number,
            lost=lost.get(number, 0),
            duplicated=ledger.duplicated[number],
            reordered=ledger.reordered[number],
            unexpected=ledger.unexpected[number],
            has_ended=ledger.has_ended(number),
        )
        for number in range(ledger.subscriptions)
        if number in lost
        or ledger.has_ended(number)
        or ledger.duplicated[number]
        or ledger.reordered[number]
        or ledger.unexpected[number]
    ][:_LISTED]


def delivery_failures(ledger: Ledger, found: Deliveries, *, strict_order: bool) -> Iterator[str]:
    """Yield what is wrong with the deliveries, the worst first."""
    lost = len(ledger.lost())
    if found.lost:
        yield (
            f"{counted(found.lost, 'delivery was', 'deliveries were')} lost, on {lost:,} of"
            f" {counted(found.subscriptions, 'subscription')}"
        )
    if found.duplicated:
        yield f"{counted(found.duplicated, 'delivery was', 'deliveries were')} duplicated"
    if found.reordered and strict_order:
        yield f"{counted(found.reordered, 'delivery was', 'deliveries were')} out of order"
    if found.unexpected:
        yield (
            f"{counted(found.unexpected, 'delivery was', 'deliveries were')} of an event that was"
            " not asked for, or came back long after"
        )
    if found.refused:
        yield f"{counted(found.refused, 'event was', 'events were')} refused: " + reasons(
            ledger.refused
        )
    if found.unanswered:
        yield f"{counted(found.unanswered, 'event')} got no answer"


def incident_failures(incidents: Incidents) -> Iterator[str]:
    """Yield what went wrong with connections and subscriptions."""
    counts = (
        (incidents.not_opened, "connection", "could not be opened"),
        (incidents.connections_ended, "connection", "ended too early"),
        (incidents.subscriptions_ended, "subscription", "refused or ended by the relay"),
        (incidents.unintelligible, "message", "without a meaning"),
    )
    for counter, what, happened in counts:
        if counter:
            yield f"{counted(counter.total(), what)} {happened}: {reasons(counter)}"


def order_remarks(found: Deliveries, *, strict_order: bool) -> Iterator[str]:
    """Yield what is to say about the order where it fails nothing."""
    if found.reordered and not strict_order:
        yield (
            f"{counted(found.reordered, 'delivery was', 'deliveries were')} out of order, which"
            " fails only with --strict-order"
        )


def rate_remarks(found: Deliveries, wanted: int) -> Iterator[str]:
    """Yield what is to say where fewer events were sent than were wanted."""
    if found.sent is not None and found.sent < wanted:
        yield f"only {found.sent:,} of {wanted:,} events could be published in time"


def notice_remarks(incidents: Incidents) -> Iterator[str]:
    """Yield what the relay said to humans."""
    if incidents.notices:
        yield f"the relay said: {reasons(incidents.notices)}"


_EXACT: Final = ("connections", "subscriptions", "tasks", "descriptors")


def has_settled(before: ServerState, after: ServerState, tolerance: float) -> bool:
    """Tell whether everything that a load took was given back."""
    return not any(_left_behind(before, after, tolerance))


def resource_failures(server: Server, tolerance: float) -> Iterator[str]:
    """Yield what a load has left behind; `tolerance` of memory is a part of what there was.

    Nothing, when the relay did not tell its state before the load.
    """
    if server.before is None:
        return
    if server.after is None:
        yield "the relay's metrics could not be read after the load"
        return
    yield from _left_behind(server.before, server.after, tolerance)
    for name, what in (("errors", "logged {} of level error"), ("faults", "had {}")):
        before, after = getattr(server.before, name), getattr(server.after, name)
        if before is not None and after is not None and after > before:
            thing = "line" if name == "errors" else "fault on a connection"
            things = "lines" if name == "errors" else "faults on connections"
            yield f"the relay {what.format(counted(after - before, thing, things))}"


def _left_behind(before: ServerState, after: ServerState, tolerance: float) -> Iterator[str]:
    for name in _EXACT:
        first, last = getattr(before, name), getattr(after, name)
        if first is not None and last != first:
            last = "unknown" if last is None else f"{last:,}"
            yield f"{name} are not back where they were: {first:,} before, {last} after"
    if before.memory is not None and after.memory is not None:
        growth = after.memory / before.memory - 1
        if growth > tolerance:
            yield (
                f"memory is not back where it was: {megabytes(before.memory)} before,"
                f" {megabytes(after.memory)} after, {growth:+.0%} where {tolerance:.0%} is allowed"
            )


def server_remarks(server: Server) -> Iterator[str]:
    """Yield what is to say about the relay's state where it fails nothing."""
    if server.before is None:
        yield "the relay's own state is not available: the verdict is about deliveries only"
    elif server.after is not None:
        before, after = server.before.warnings, server.after.warnings
        if before is not None and after is not None and after > before:
            yield f"the relay logged {counted(after - before, 'warning')}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun, in the plural where it should be."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def megabytes(size: int) -> str:
    """Return a size in bytes, for humans."""
    return f"{size / 1e6:.1f} MB"


def reasons(counter: Mapping[str, int]) -> str:
    """Return the most frequent texts of a counter, each with its number if there are several."""
    common = Counter(counter).most_common()
    shown = [
        (text or "without a reason") + (f" ({number:,})" if len(common) > 1 else "")
        for text, number in common[:_REASONS_SHOWN]
    ]
    if len(common) > _REASONS_SHOWN:
        shown.append("…")
    return "; ".join(shown)
