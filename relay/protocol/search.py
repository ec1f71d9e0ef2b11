"""What a filter's `search` asks for (NIP-50).

    word          an event has this word
    "some words"  it has these words in a row, within one field
    wor*          it has a word that begins like this; `"some wor"*` is possible, too
    key:value     an extension; none is supported, so it is ignored. An address such as
                  `https://…` is none, nor is what stands in quotes, nor `nostr:…` (NIP-21)

Terms are separated by white space, and all of them must match, in any order and any field. What
stands between two separators is taken apart as the text of events is (`relay.protocol.text`), and
what gives several words is a phrase: `don't`, `example.com/path`, a name in Chinese. There is no
other syntax, and nothing is an error: signs that make no word are passed over.

A search in which no term is left asks for nothing: it is as if it had not been given.

`SearchQuery.matches` is the plain definition, used for new events; the indexes of the stores are
tested against it. A term is a string to be found in the normal form of the event's text, which
makes it quick as well: 0.2 µs a term for a note.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from relay.protocol.event import Event
from relay.protocol.searchable import searchable
from relay.protocol.text import normal_form

MAX_LENGTH: Final = 1_024
"""Characters in a search."""
MAX_WORDS: Final = 64
"""Words in all terms of a search; each costs up to 5 µs for each segment of an index."""
_REMEMBERED: Final = 1_024

_TOKEN: Final = re.compile(
    r"""
    [A-Za-z][A-Za-z0-9_-]* : "[^"]*"?            # an extension with a quoted value
    | "(?P<phrase>[^"]*)"? (?P<open>\**)
    | (?P<word>[^\s"]+)
    """,
    re.VERBOSE,
)
_EXTENSION: Final = re.compile(r"(?!nostr:)[A-Za-z][A-Za-z0-9_-]*:(?!//)\S+", re.IGNORECASE)
_QUOTES: Final = str.maketrans("\u201c\u201d\u201e\u201f\u00ab\u00bb", '""""""')
"""Telephones make these of straight quotes."""


class Term(NamedTuple):
    """Words in a row, the last of which may be the beginning of one only."""

    words: tuple[str, ...]
    is_prefix: bool

    @property
    def form(self) -> str:
        """What is found in the normal form of a text if and only if the term matches it."""
        return f" {' '.join(self.words)}" + ("" if self.is_prefix else " ")


class SearchQuery:
    """A search, understood."""

    __slots__ = ("_forms", "terms")

    def __init__(self, terms: Iterable[Term]) -> None:
        self.terms = tuple(dict.fromkeys(terms))
        """Each once, in the order in which they were given."""
        self._forms = [term.form for term in self.terms]

    @property
    def words(self) -> int:
        """How many words all its terms have."""
        return sum([len(term.words) for term in self.terms])

    def matches(self, event: Event) -> bool:
        """Tell whether all terms match the text of `event`."""
        if not self._forms:
            return True
        text = _latest.text(event)
        for form in self._forms:  # noqa: SIM110 - a generator here costs more than the test
            if form not in text:
                return False
        return True


class _Latest:
    """The text of the event that was asked about last: many filters are asked about one event."""

    def __init__(self) -> None:
        self._known: tuple[Event, str] | None = None

    def text(self, event: Event) -> str:
        known = self._known
        if known is not None and known[0] is event:
            return known[1]
        found = searchable(event)
        text = "" if found is None else found.whole
        self._known = (event, text)
        return text


_latest: Final = _Latest()


@lru_cache(_REMEMBERED)
def parse_search(text: str) -> SearchQuery:
    """Understand a search. Never raises, whatever `text` holds."""
    terms = []
    for token in _TOKEN.finditer(text.translate(_QUOTES)):
        phrase, word = token["phrase"], token["word"]
        if phrase is not None:
            terms.append(_term(phrase, is_prefix=bool(token["open"])))
        elif word is not None and _EXTENSION.fullmatch(word) is None:
            bare = word.rstrip("*")
            terms.append(_term(bare, is_prefix=bare != word))
    return SearchQuery(term for term in terms if term.words)


def _term(text: str, *, is_prefix: bool) -> Term:
    words = tuple(normal_form(text).split())
    # `nostr-*` asks for a whole word, and anything behind it
    return Term(words, is_prefix and bool(text) and normal_form(text[-1]) != " ")
