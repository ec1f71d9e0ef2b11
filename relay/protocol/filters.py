"""Filters: parsed from a REQ, compared with events (NIP-01, "Communication").

A filter's conditions are AND-ed, its values OR-ed; several filters of one request are OR-ed.
`Filter.matches` is the plain definition, and the oracle of every faster path: `compile_filter`
(live matching) and the stores' queries are tested against it.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from relay.protocol.event import MAX_KIND, MAX_TIMESTAMP, Event, is_hex64
from relay.protocol.limits import Limits
from relay.protocol.search import MAX_LENGTH, MAX_WORDS, parse_search

_LETTER_FIELD: Final = re.compile(r"#[a-zA-Z]").fullmatch
_EXACT_HEX_TAGS: Final = ("#e", "#p")
_VALUES_FOR_A_WORD: Final = 100
"""A word of a search counts as so many values: it is looked for in the text of each new event,
which takes up to 5 µs if that is long."""

Matcher = Callable[[Event, frozenset[str]], bool]
"""A compiled filter: (event, its `tag_keys`) → does it match?"""


Value = TypeVar("Value", str, int)


class InvalidFilter(ValueError):
    """A filter is not what NIP-01 allows. The text is the answer's reason, prefix included."""


class Filter(msgspec.Struct, frozen=True, gc=False):
    """One filter. `None` means that a condition was not given; a set is never empty.

    `tags` holds (letter, values) in the order of the letters. `limit` bounds the stored events
    only and plays no part in matching. `search` asks for at least one word (NIP-50), and orders the
    stored events by relevance.
    """

    ids: frozenset[str] | None = None
    authors: frozenset[str] | None = None
    kinds: frozenset[int] | None = None
    tags: tuple[tuple[str, frozenset[str]], ...] = ()
    since: int | None = None
    until: int | None = None
    limit: int | None = None
    search: str | None = None

    @property
    def values(self) -> int:
        """How many values all its conditions hold together."""
        conditions = [self.ids, self.authors, self.kinds, *[values for _, values in self.tags]]
        values = sum([len(condition) for condition in conditions if condition is not None])
        if self.search is not None:
            values += _VALUES_FOR_A_WORD * parse_search(self.search).words
        return values

    @property
    def searches(self) -> bool:
        """Whether it asks for any word (NIP-50)."""
        return self.search is not None and bool(parse_search(self.search).terms)

    def matches(self, event: Event) -> bool:
        """Tell whether `event` passes, condition by condition as NIP-01 states them."""
        if self.ids is not None and event.id not in self.ids:
            return False
        if self.authors is not None and event.pubkey not in self.authors:
            return False
        if self.kinds is not None and event.kind not in self.kinds:
            return False
        if self.since is not None and event.created_at < self.since:
            return False
        if self.until is not None and event.created_at > self.until:
            return False
        for letter, values in self.tags:
            if not any(len(t) > 1 and t[0] == letter and t[1] in values for t in event.tags):
                return False
        return self.search is None or parse_search(self.search).matches(event)


def matches_any(filters: Sequence[Filter], event: Event) -> bool:
    """Tell whether `event` passes at least one of `filters`."""
    return any(f.matches(event) for f in filters)


def may_meet(one: Filter, other: Filter) -> bool:
    """Tell whether an event may match both; false only when that is certain, and quickly known."""
    return not (
        _are_disjoint(one.kinds, other.kinds)
        or _are_disjoint(one.authors, other.authors)
        or _are_disjoint(one.ids, other.ids)
    )


def common(one: Filter, other: Filter) -> Filter | None:
    """Return a filter for what matches both; `None`: nothing does.

    `limit` and `search` are `one`'s.
    """
    ids = _common(one.ids, other.ids)
    authors, kinds = _common(one.authors, other.authors), _common(one.kinds, other.kinds)
    since = max(one.since or 0, other.since or 0)
    until = min(
        MAX_TIMESTAMP if one.until is None else one.until,
        MAX_TIMESTAMP if other.until is None else other.until,
    )
    if frozenset() in (ids, authors, kinds) or since > until:
        return None
    # an event has to pass each condition, even if two of them are about one letter
    return msgspec.structs.replace(
        one,
        ids=ids,
        authors=authors,
        kinds=kinds,
        tags=tuple(dict.fromkeys(one.tags + other.tags)),
        since=since,
        until=until,
    )


def _common(
    one: frozenset[Value] | None, other: frozenset[Value] | None
) -> frozenset[Value] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _are_disjoint(one: frozenset[Value] | None, other: frozenset[Value] | None) -> bool:
    return one is not None and other is not None and one.isdisjoint(other)


def compile_filter(filter_: Filter) -> Matcher:
    """Return a function that answers as `filter_.matches` does, for live matching.

    It holds only the conditions that were given, and tests tags by one set intersection instead
    of a loop over the event's tags.
    """
    ids, authors, kinds = filter_.ids, filter_.authors, filter_.kinds
    since = filter_.since if filter_.since is not None else 0
    until = filter_.until if filter_.until is not None else MAX_TIMESTAMP
    wanted = tuple(
        frozenset([letter + value for value in values]) for letter, values in filter_.tags
    )

    def matcher(event: Event, keys: frozenset[str]) -> bool:
        if kinds is not None and event.kind not in kinds:
            return False
        if authors is not None and event.pubkey not in authors:
            return False
        if ids is not None and event.id not in ids:
            return False
        if not since <= event.created_at <= until:
            return False
        for values in wanted:  # noqa: SIM110 - a generator here costs more than the test
            if values.isdisjoint(keys):
                return False
        return True

    if filter_.search is None:
        return matcher
    search = parse_search(filter_.search)
    return lambda event, keys: matcher(event, keys) and search.matches(event)


def parse_filter(value: object, limits: Limits) -> Filter:
    """Build a filter from decoded JSON.

    A `limit` above `limits.max_limit` is clamped (NIP-11), as are times beyond what an event can
    carry. Raises `InvalidFilter` with the reason to answer.
    """
    if not isinstance(value, dict):
        raise InvalidFilter("invalid: a filter must be a JSON object")
    ids = authors = None
    kinds: frozenset[int] | None = None
    tags: list[tuple[str, frozenset[str]]] = []
    since = until = limit = search = None
    for field, content in value.items():
        if field == "kinds":
            kinds = _kinds(content, limits)
        elif field == "authors":
            authors = _hex_values(field, content, limits)
        elif field == "ids":
            ids = _hex_values(field, content, limits)
        elif field == "since":
            since = _natural(field, content)
        elif field == "until":
            until = _natural(field, content)
        elif field == "limit":
            limit = min(_natural(field, content), limits.max_limit)
        elif _LETTER_FIELD(field):
            exact = field in _EXACT_HEX_TAGS
            values = (_hex_values if exact else _strings)(field, content, limits)
            tags.append((field[1], values))
        elif field == "search":
            search = _search(content)
        else:
            raise InvalidFilter(f"unsupported: unknown filter field {quoted(field)}")
    tags.sort(key=lambda item: item[0])
    return Filter(
        ids=ids,
        authors=authors,
        kinds=kinds,
        tags=tuple(tags),
        since=None if since is None else min(since, MAX_TIMESTAMP + 1),
        until=None if until is None else min(until, MAX_TIMESTAMP),
        limit=limit,
        search=search,
    )


def quoted(text: str) -> str:
    """Return what a peer has written, cut and escaped, to be quoted in an answer."""
    return msgspec.json.encode(text if len(text) <= 32 else text[:32] + "…").decode()


def _values(field: str, content: object, limits: Limits) -> list[object]:
    if not isinstance(content, list):
        raise InvalidFilter(f"invalid: {field} must be an array")
    if not content:
        raise InvalidFilter(f"invalid: {field} must hold at least one value")
    if len(content) > limits.max_filter_values:
        raise InvalidFilter(
            f"invalid: {field} holds {len(content)} values, at most {limits.max_filter_values}"
            " are allowed"
        )
    return content


def _hex_values(field: str, content: object, limits: Limits) -> frozenset[str]:
    values = _values(field, content, limits)
    for value in values:
        if not isinstance(value, str) or is_hex64(value) is None:
            raise InvalidFilter(f"invalid: {field} must hold 64-character lowercase hex values")
    return frozenset(values)  # type: ignore[arg-type]  # each was checked to be a str


def _strings(field: str, content: object, limits: Limits) -> frozenset[str]:
    values = _values(field, content, limits)
    for value in values:
        if not isinstance(value, str):
            raise InvalidFilter(f"invalid: {field} must hold strings")
    return frozenset(values)  # type: ignore[arg-type]  # each was checked to be a str


def _kinds(content: object, limits: Limits) -> frozenset[int]:
    values = _values("kinds", content, limits)
    for value in values:
        # bool is an int to Python, not to JSON
        if type(value) is not int or not 0 <= value <= MAX_KIND:
            raise InvalidFilter("invalid: kinds must hold integers from 0 to 65535")
    return frozenset(values)  # type: ignore[arg-type]  # each was checked to be an int


def _natural(field: str, content: object) -> int:
    if type(content) is not int or content < 0:
        raise InvalidFilter(f"invalid: {field} must be a non-negative integer")
    return content


def _search(content: object) -> str | None:
    """Return a search that asks for something; `None` for one that does not."""
    if not isinstance(content, str):
        raise InvalidFilter("invalid: search must be a string")
    if len(content) > MAX_LENGTH:
        raise InvalidFilter(
            f"invalid: search has {len(content)} characters, at most {MAX_LENGTH} are allowed"
        )
    words = parse_search(content).words
    if words > MAX_WORDS:
        raise InvalidFilter(f"invalid: search has {words} words, at most {MAX_WORDS} are allowed")
    return content if words else None
