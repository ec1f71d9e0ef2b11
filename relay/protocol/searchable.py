"""What of an event is searched (NIP-50): text that people wrote to be read by anybody.

    what is encrypted, or addressed to a few               nothing
    what programs write for programs                       nothing
    profiles, channels, stalls, products, applications     the named fields of their JSON
    lists and sets                                         titles and descriptions; their content
                                                           may be encrypted
    every other kind, known or not                         the content, titles and descriptions

Of kinds that nobody has thought of here, a content is left out that cannot be prose: a JSON object
or array, and an ASCII text without white space that is longer than any word (a cipher text, an
image). Ephemeral events are not searched: they are gone before anybody could look for them.

There are two fields, since a word in a title tells more about what it is all about.
"""

from typing import Final, NamedTuple

import msgspec

from relay.protocol.event import Event, KindClass, kind_class
from relay.protocol.text import normal_form

MOST_CHARACTERS: Final = 20_000
"""So much of an event's text is searched: 3 ms to take apart, in a script that takes longest."""

_ENCRYPTED: Final = frozenset(
    {
        4,  # direct messages
        13,  # seals
        14,  # private messages and files, which should not get here in clear
        15,
        443,  # messages of encrypted groups
        444,
        445,
        1059,  # gift wraps
        1060,
        7374,  # wallets
        7375,
        7376,
        30078,  # data of applications
    }
)
_FOR_PROGRAMS: Final = frozenset(
    {
        3,  # follow lists
        5,  # deletion requests
        6,  # reposts: the event is found itself
        16,
        7,  # reactions
        17,
        8,  # badge awards
        62,  # requests to vanish
        1040,  # timestamps
        1984,  # reports
        1985,  # labels
        8000,  # membership
        8001,
        9321,  # nutzaps
        9734,  # zaps
        9735,
        28934,
        28935,
        28936,
        30008,  # badges shown
        30166,  # relay discovery
    }
)
_JOBS: Final = range(5000, 7001)
_GROUP_CONTROL: Final = range(9000, 9031)
_IN_JSON: Final = frozenset({0, 40, 41, 30017, 30018, 31990})
_SETS: Final = frozenset({*range(30000, 30008), 30015, 30030, 30063, 30267, 31924, 39089, 39092})

_TITLES_IN_JSON: Final = ("name", "display_name", "displayName", "nip05")
_TEXTS_IN_JSON: Final = ("about", "description")
_TITLE_TAGS: Final = frozenset({"title", "subject", "name"})
_TEXT_TAGS: Final = frozenset({"summary", "description", "about", "alt", "comment"})

_LONGEST_UNBROKEN: Final = 128
_BETWEEN_FIELDS: Final = "\ue000"
"""A word that nobody can ask for, so that no phrase reaches from one field into the next."""


class Searchable(NamedTuple):
    """The text of an event that is searched, in normal form."""

    title: str
    body: str

    @property
    def whole(self) -> str:
        """Both, in one string: a phrase is in it if it is in one of them."""
        return f"{self.title}{_BETWEEN_FIELDS}{self.body}"


def searchable(event: Event) -> Searchable | None:
    """Return the text of `event` that is searched; `None` where there is none."""
    kind = event.kind
    if not is_searched(kind):
        return None
    if kind in _IN_JSON:
        titles, texts = _fields_of_json(event.content)
    else:
        titles, texts = _fields_of_tags(event)
        if kind_class(kind) is not KindClass.REPLACEABLE and kind not in _SETS:
            content = event.content
            if content and _may_be_prose(content):
                texts.insert(0, content)
    title, body = _form(titles), _form(texts)
    return None if title == body == " " else Searchable(title, body)


def is_searched(kind: int) -> bool:
    """Tell whether events of `kind` may have text that is searched."""
    return not (
        kind in _ENCRYPTED
        or kind in _FOR_PROGRAMS
        or kind in _JOBS
        or kind in _GROUP_CONTROL
        or 20000 <= kind < 30000
    )


def _fields_of_json(content: str) -> tuple[list[str], list[str]]:
    try:
        fields = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return [], []
    if not isinstance(fields, dict):
        return [], []
    titles = [fields.get(name) for name in _TITLES_IN_JSON]
    texts = [fields.get(name) for name in _TEXTS_IN_JSON]
    return [t for t in titles if isinstance(t, str)], [t for t in texts if isinstance(t, str)]


def _fields_of_tags(event: Event) -> tuple[list[str], list[str]]:
    titles: list[str] = []
    texts: list[str] = []
    for tag in event.tags:
        if len(tag) > 1:
            if tag[0] in _TITLE_TAGS:
                titles.append(tag[1])
            elif tag[0] in _TEXT_TAGS:
                texts.append(tag[1])
    return titles, texts


def _may_be_prose(content: str) -> bool:
    if content[0] in "{[" and _is_json(content):
        return False
    beginning = content[: _LONGEST_UNBROKEN + 1]
    return (
        len(beginning) <= _LONGEST_UNBROKEN
        or not beginning.isascii()
        or len(beginning.split(maxsplit=1)) > 1
        or len(content.split(maxsplit=1)) > 1
    )


def _is_json(content: str) -> bool:
    try:
        msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True


def _form(fields: list[str]) -> str:
    forms = []
    left = MOST_CHARACTERS
    for field in fields:
        form = normal_form(field[:left])
        left -= len(field)
        if form != " ":
            forms.append(form)
        if left <= 0:
            break
    return _BETWEEN_FIELDS.join(forms) if forms else " "
