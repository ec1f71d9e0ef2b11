"""Full-text expressions: what a filter with tags asks of the index of words.

The condition with the fewest values leads: it carries the kinds, and is cut into several
expressions if it is long. Others of bearable length narrow it; what is longer is left to the check
of the rows.
"""

from typing import Final, NamedTuple

from relay.protocol.filters import Filter
from relay.store.sqlite.keys import Keys

_MOST_WORDS: Final = 256
"""Words in one part of an expression: each costs 6 to 19 µs to open."""


class Words(NamedTuple):
    """A filter in words."""

    expressions: list[str]
    """Whoever matches the filter matches one of these."""
    lead: str
    """The leading condition with its kinds, in one expression; of no use if there are several."""
    leading: int
    """How many words the leading condition has."""
    narrowing: int
    """How many words narrow it."""
    kinds_settled: bool
    """Whether they hold the filter's kinds."""
    whole: bool
    """Whether they hold all conditions but times, in a single expression."""


def words_of(filter_: Filter, keys: Keys) -> Words:
    """Return the words of a filter that has tags."""
    conditions = sorted(filter_.tags, key=lambda condition: len(condition[1]))
    letter, values = conditions[0]
    kinds, authors = filter_.kinds, filter_.authors
    words = [keys.tag_word(letter + value) for value in sorted(values)]
    # A word for each kind spares rows, but many words cost more than many rows.
    kinds_settled = kinds is None or len(words) * len(kinds) <= _MOST_WORDS
    if kinds is not None and kinds_settled:
        words = [f"{word}k{kind}" for word in words for kind in kinds]
    narrowing = [
        [keys.tag_word(letter + value) for value in values]
        for letter, values in conditions[1:]
        if len(values) <= _MOST_WORDS
    ]
    if authors is not None and len(authors) <= _MOST_WORDS:
        narrowing.append([keys.author_word(author) for author in authors])
    expressions = [
        " AND ".join(f"({' OR '.join(part)})" for part in ([some, *narrowing]))
        for some in (
            words[start : start + _MOST_WORDS] for start in range(0, len(words), _MOST_WORDS)
        )
    ]
    stated = 1 + len(narrowing)
    asked = len(conditions) + (authors is not None)
    whole = len(expressions) == 1 and kinds_settled and stated == asked
    narrowing_words = sum(map(len, narrowing))
    return Words(expressions, " OR ".join(words), len(words), narrowing_words, kinds_settled, whole)
