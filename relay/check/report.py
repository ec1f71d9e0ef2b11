"""A verdict for humans, and for machines."""

from collections.abc import Iterator
from typing import Final

import msgspec

from relay.check.server_state import ServerState
from relay.check.verdict import Deliveries, Exceptions, Server, Verdict, counted, megabytes

_EXCEPTIONS_SHOWN: Final = 20
_NOT_AVAILABLE: Final = "not available"


def as_json(verdict: Verdict) -> str:
    """Return the verdict as one JSON object."""
    return msgspec.json.format(msgspec.json.encode(verdict), indent=2).decode()


def as_text(verdict: Verdict) -> str:
    """Return the verdict as a table, with its word in the last lines."""
    return "\n".join(_lines(verdict))


def _lines(verdict: Verdict) -> Iterator[str]:
    yield f"{verdict.check} of {verdict.url}"
    if verdict.deliveries is not None:
        yield ""
        yield from _deliveries(verdict.deliveries)
    if verdict.churn is not None:
        yield ""
        yield _row("connects", f"{verdict.churn.connects:,}")
        yield _row("completed", f"{verdict.churn.completed:,}")
        yield _row("per second", f"{verdict.churn.per_second:,.0f}")
    if verdict.exceptions:
        yield ""
        yield from _exceptions(verdict.exceptions)
    if verdict.server is not None:
        yield ""
        yield from _server(verdict.server)
    yield ""
    for remark in verdict.remarks:
        yield f"note: {remark}"
    if verdict.was_interrupted:
        yield "note: interrupted; this is about what was seen until then"
    if verdict.passed:
        yield f"PASSED: {_praise(verdict)}"
    for failure in verdict.failures:
        yield f"FAILED: {failure}"


def _praise(verdict: Verdict) -> str:
    found = verdict.deliveries
    if found is None:
        assert verdict.churn is not None  # noqa: S101 - a check has one or the other
        text = f"{counted(verdict.churn.completed, 'connection')} came and went"
    elif found.received:
        text = f"{counted(found.received, 'delivery', 'deliveries')}, none lost, none duplicated"
    else:
        text = "nothing came, and no subscription ended"
    if verdict.server is not None and verdict.server.before is not None:
        text += ", and everything that was taken is given back"
    return text


def _deliveries(found: Deliveries) -> Iterator[str]:
    for name in (
        "connections",
        "subscriptions",
        "seen",
        "sent",
        "accepted",
        "refused",
        "unanswered",
        "received",
        "lost",
        "missed",
        "duplicated",
        "reordered",
        "unexpected",
    ):
        value = getattr(found, name)
        if value is not None:
            yield _row(name, f"{value:,}")
    if found.received:
        times = ", ".join(f"{name} {time:,.1f}" for name, time in found.latency_ms.items())
        yield f"  latency, ms      {times}"


def _row(name: str, *cells: str) -> str:
    return f"  {name:<14}" + "".join(f" {cell:>13}" for cell in cells)


def _exceptions(exceptions: list[Exceptions]) -> Iterator[str]:
    columns = ("lost", "duplicated", "reordered", "unexpected")
    yield _row("subscription", *columns)
    for one in exceptions[:_EXCEPTIONS_SHOWN]:
        cells = [f"{getattr(one, column):,}" for column in columns]
        yield _row(str(one.subscription), *cells) + ("  ended" if one.has_ended else "")
    if len(exceptions) > _EXCEPTIONS_SHOWN:
        yield f"  … and {len(exceptions) - _EXCEPTIONS_SHOWN:,} more"


def _server(server: Server) -> Iterator[str]:
    yield _row("the relay", "before", "during", "after")
    states = (server.before, server.during, server.after)
    for name in ("connections", "subscriptions", "tasks", "descriptors", "memory", "errors"):
        yield _row(name, *[_cell(state, name) for state in states])


def _cell(state: ServerState | None, name: str) -> str:
    value = None if state is None else getattr(state, name)
    if value is None:
        return _NOT_AVAILABLE
    return megabytes(value) if name == "memory" else f"{value:,}"
