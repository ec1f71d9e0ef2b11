"""The ids that were met lately, without a look at the store.

Two sets: new ids go into the young one; when that is full it becomes the old one, and the ids of
the old one are forgotten together. So between `capacity` and half of it are known, at a constant
cost. (A dict whose first key is deleted for every new one walks over the holes that its deletions
have left: 4 µs an id with 65,536 of them.)
"""


class RecentIds:
    """A bounded memory of event ids."""

    def __init__(self, capacity: int = 65_536) -> None:
        self._half = max(1, capacity // 2)
        self._young: set[str] = set()
        self._old: set[str] = set()

    def __contains__(self, event_id: str) -> bool:
        """Tell whether `event_id` is known."""
        return event_id in self._young or event_id in self._old

    def add(self, event_id: str) -> None:
        """Note `event_id`; the oldest may be forgotten for it."""
        if len(self._young) >= self._half:
            self._old = self._young
            self._young = set()
        self._young.add(event_id)

    def clear(self) -> None:
        """Forget all."""
        self._young.clear()
        self._old.clear()
