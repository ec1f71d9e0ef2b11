"""Which subscriptions want an event: an inverted index over the filters of all subscriptions.

Each distinct filter is one *interest*, shared by all who asked for the same; it stands under every
value of its most selective condition only (ids, then tag values, then authors, then kinds; a
filter with none of these is under "rest"). An event is looked up by its own id, author, kind and
tag values, so the cost of an event depends on the interests that share a value with it, not on the
number of subscriptions. Each interest met is then evaluated once, by its compiled filter, and a
match yields its subscribers; somebody whom two interests lead to is told once.

`plain_match` is the definition, and the oracle of the tests.
"""

from collections.abc import Collection, Hashable, Iterable
from itertools import chain
from typing import Generic, TypeVar

from relay.protocol.event import Event, tag_keys
from relay.protocol.filters import Filter, compile_filter, matches_any

Subscriber = TypeVar("Subscriber", bound=Hashable)


class _Interest(Generic[Subscriber]):
    """One distinct filter, and who asked for it (a dict, for its order and O(1) removal)."""

    __slots__ = ("filter", "matches", "subscribers")

    def __init__(self, filter_: Filter) -> None:
        self.filter = filter_
        self.matches = compile_filter(filter_)
        self.subscribers: dict[Subscriber, None] = {}


_Bucket = _Interest[Subscriber] | dict[_Interest[Subscriber], None]
"""What stands under one value: one interest as it is, several as an ordered set.

Most values have one. A dict for each of them would take 230 bytes, more than all else together.
"""


class Matcher(Generic[Subscriber]):
    """The filters of all live subscriptions."""

    def __init__(self) -> None:
        self._interests: dict[Filter, _Interest[Subscriber]] = {}
        self._filters: dict[Subscriber, tuple[Filter, ...]] = {}
        self._by_id: dict[str, _Bucket[Subscriber]] = {}
        self._by_tag: dict[str, _Bucket[Subscriber]] = {}
        self._by_author: dict[str, _Bucket[Subscriber]] = {}
        self._by_kind: dict[int, _Bucket[Subscriber]] = {}
        self._rest: dict[_Interest[Subscriber], None] = {}

    def __len__(self) -> int:
        """Return how many subscribers are registered."""
        return len(self._filters)

    def add(self, subscriber: Subscriber, filters: Iterable[Filter]) -> None:
        """Register `subscriber` for whatever matches any of `filters`.

        Raises `ValueError` when it is registered already.
        """
        if subscriber in self._filters:
            raise ValueError("this subscriber is registered already")
        # the stored part's limit plays no role here; without it more filters are equal
        wanted = tuple({_without_limit(filter_): None for filter_ in filters})
        self._filters[subscriber] = wanted
        for filter_ in wanted:
            interest = self._interests.get(filter_)
            if interest is None:
                interest = self._interests[filter_] = _Interest(filter_)
                self._enter(interest)
            interest.subscribers[subscriber] = None

    def remove(self, subscriber: Subscriber) -> None:
        """Forget `subscriber`. Does nothing when it is not registered."""
        for filter_ in self._filters.pop(subscriber, ()):
            interest = self._interests[filter_]
            del interest.subscribers[subscriber]
            if not interest.subscribers:
                del self._interests[filter_]
                self._leave(interest)

    def match(self, event: Event) -> Collection[Subscriber]:
        """Return everybody who wants `event`, each once. Not to be kept: it may be live."""
        keys: frozenset[str] | None = None
        if self._by_tag and event.tags:
            keys = tag_keys(event)
        met = self._met(event, keys)
        if not met:
            return ()
        if keys is None:
            # not needed to find them, but perhaps to judge them
            keys = tag_keys(event) if event.tags else frozenset()
        matching = [one for one in met if one.matches(event, keys)]
        if len(matching) <= 1:
            return matching[0].subscribers if matching else ()
        return dict.fromkeys(chain(*[one.subscribers for one in matching]))

    def _met(self, event: Event, keys: frozenset[str] | None) -> Collection[_Interest[Subscriber]]:
        """Return the interests that share a value with the event, each once."""
        buckets = [
            self._by_id.get(event.id),
            self._by_author.get(event.pubkey),
            self._by_kind.get(event.kind),
            self._rest or None,
        ]
        if keys:
            by_tag = self._by_tag
            # a follow list has hundreds of tags: walk whichever side is shorter
            common = by_tag.keys() & keys if len(by_tag) < len(keys) else keys
            buckets.extend([by_tag.get(key) for key in common])
        met: list[_Interest[Subscriber]] = []
        filled = 0
        for bucket in buckets:
            if bucket is None:
                continue
            filled += 1
            if isinstance(bucket, dict):
                met.extend(bucket)
            else:
                met.append(bucket)
        # an interest in many values may be met under several of them
        return met if filled <= 1 else dict.fromkeys(met)

    def _enter(self, interest: _Interest[Subscriber]) -> None:
        filter_ = interest.filter
        if filter_.ids is not None:
            _put(self._by_id, filter_.ids, interest)
        elif (keys := _narrowest_tag(filter_)) is not None:
            _put(self._by_tag, keys, interest)
        elif filter_.authors is not None:
            _put(self._by_author, filter_.authors, interest)
        elif filter_.kinds is not None:
            _put(self._by_kind, filter_.kinds, interest)
        else:
            self._rest[interest] = None

    def _leave(self, interest: _Interest[Subscriber]) -> None:
        filter_ = interest.filter
        if filter_.ids is not None:
            _discard(self._by_id, filter_.ids, interest)
        elif (keys := _narrowest_tag(filter_)) is not None:
            _discard(self._by_tag, keys, interest)
        elif filter_.authors is not None:
            _discard(self._by_author, filter_.authors, interest)
        elif filter_.kinds is not None:
            _discard(self._by_kind, filter_.kinds, interest)
        else:
            del self._rest[interest]


Key = TypeVar("Key", str, int)


def _put(
    index: dict[Key, _Bucket[Subscriber]], keys: Iterable[Key], interest: _Interest[Subscriber]
) -> None:
    for key in keys:
        bucket = index.setdefault(key, interest)
        if bucket is interest:
            continue
        if isinstance(bucket, dict):
            bucket[interest] = None
        else:
            index[key] = {bucket: None, interest: None}


def _discard(
    index: dict[Key, _Bucket[Subscriber]], keys: Iterable[Key], interest: _Interest[Subscriber]
) -> None:
    for key in keys:
        bucket = index[key]
        if isinstance(bucket, dict):
            del bucket[interest]
            if not bucket:
                del index[key]
        else:
            del index[key]


def _without_limit(filter_: Filter) -> Filter:
    if filter_.limit is None:
        return filter_
    return Filter(
        ids=filter_.ids,
        authors=filter_.authors,
        kinds=filter_.kinds,
        tags=filter_.tags,
        since=filter_.since,
        until=filter_.until,
        search=filter_.search,
    )


def _narrowest_tag(filter_: Filter) -> list[str] | None:
    """Return the keys of the tag condition with the fewest values; `None` where there is none."""
    if not filter_.tags:
        return None
    letter, values = min(filter_.tags, key=lambda condition: len(condition[1]))
    return [letter + value for value in values]


def plain_match(
    subscribers: dict[Subscriber, tuple[Filter, ...]], event: Event
) -> list[Subscriber]:
    """Return who wants `event` by asking every filter of everybody: the definition."""
    return [one for one, filters in subscribers.items() if matches_any(filters, event)]
