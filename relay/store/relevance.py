"""How well an event answers a search, for a store whose index does not tell: BM25 over two fields.

    relevance = sum over the terms of   rarity(term) * n / (n + 1.2 * (0.5 + 0.5 * length / 40))

n is how often the term occurs, in a title three times as much as elsewhere; length is that of the
whole text, in words, and 40 an ordinary one. A term is rare if few events have it: ln(1 + (stored -
having + 0.5) / (having + 0.5)). With one term there is nothing to weigh it against.

Stores need not agree in their scores. What they agree in is what matches, that the most relevant
come first, and the newer among equals.
"""

from collections.abc import Sequence
from math import log
from typing import Final

from relay.protocol.search import SearchQuery
from relay.protocol.searchable import Searchable

_TITLE_WEIGHT: Final = 3.0
_SATURATION: Final = 1.2
_ORDINARY_LENGTH: Final = 40


class Relevance:
    """Scores texts for one search."""

    def __init__(self, search: SearchQuery, having: Sequence[int], stored: int) -> None:
        """`having` says for each term how many of the `stored` events have it."""
        rarities = [1.0] * len(search.terms)
        if len(search.terms) > 1:
            rarities = [log(1 + (stored - number + 0.5) / (number + 0.5)) for number in having]
        self._terms = [
            (_apart(term.form).removeprefix(" ").removesuffix(" "), rarity)
            for term, rarity in zip(search.terms, rarities, strict=True)
        ]

    def score(self, text: Searchable | None) -> float | None:
        """Return how relevant a text is, more for better; `None` if a term does not match."""
        if text is None:
            return None
        title, body = text
        length = title.count(" ") + body.count(" ") - 2
        damping = _SATURATION * (0.5 + 0.5 * length / _ORDINARY_LENGTH)
        title, body = _apart(title), _apart(body)
        total = 0.0
        for form, rarity in self._terms:
            number = _TITLE_WEIGHT * title.count(form) + body.count(form)
            if not number:
                return None
            total += rarity * number / (number + damping)
        return total


def _apart(form: str) -> str:
    """Give each word a space of its own on both sides: two in a row would be counted as one."""
    return form.replace(" ", "  ")
