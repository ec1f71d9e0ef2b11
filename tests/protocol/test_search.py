from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocol.event import Event, tag_keys
from relay.protocol.filters import Filter, InvalidFilter, compile_filter, parse_filter
from relay.protocol.limits import Limits
from relay.protocol.search import MAX_LENGTH, MAX_WORDS, Term, parse_search
from relay.protocol.text import normal_form

HEX = "0" * 64


def note(content: str, *tags: tuple[str, ...]) -> Event:
    return Event(HEX, HEX, 1, 1, tags, content, "0" * 128)


def terms(text: str) -> list[str]:
    """Return the terms as they would be written."""
    return [
        (f'"{" ".join(words)}"' if len(words) > 1 else words[0]) + ("*" if is_prefix else "")
        for words, is_prefix in parse_search(text).terms
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("best nostr apps", ["best", "nostr", "apps"]),
        ('"best nostr" apps', ['"best nostr"', "apps"]),
        ("\u201cbest nostr\u201d apps", ['"best nostr"', "apps"]),
        ('"best nostr', ['"best nostr"']),
        ('say"hello world"now', ["say", '"hello world"', "now"]),
        ("nost*", ["nost*"]),
        ('"hello wor"*', ['"hello wor"*']),
        ("a** *b c*d", ["a*", "b", '"c d"']),
        ("nostr-*", ["nostr"]),
        ("twice Twice TWICE", ["twice"]),
        ("don't", ['"don t"']),
        ("日本 日", ['"日 本"', "日"]),
        ("naïve Привет", ["naive", "привет"]),
        ("language:en nostr", ["nostr"]),
        ("include:spam domain:example.com nsfw:false", []),
        ('author:"John Doe" nostr', ["nostr"]),
        ('"language:en"', ['"language en"']),
        ("https://example.com:80/a", ['"https example com 80 a"']),
        ("nostr:npub1xyz", ['"nostr npub1xyz"']),
        ("12:30 re: :x", ['"12 30"', "re", "x"]),
        ("AND OR NOT NEAR(a b)", ["and", "or", "not", '"near a"', "b"]),
        ("-minus +plus ^caret", ["minus", "plus", "caret"]),
        ("{title} : ( ) \" ' ;--", ["title"]),
        ('!!! ??? * ** "" "*"*', []),
        ("\x00a\x00b\x00", ['"a b"']),
        ("🤙 gm", ["🤙", "gm"]),
        ("", []),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@given(st.text(max_size=60) | st.text(alphabet='ab"*: \x00()-^{}', max_size=30))
@settings(max_examples=600, deadline=None)
def test_any_text_is_understood_in_normal_form(text: str) -> None:
    for words, is_prefix in parse_search(text).terms:
        assert words
        assert normal_form(" ".join(words)) == f" {' '.join(words)} "
        assert isinstance(is_prefix, bool)


@given(st.text(min_size=1, max_size=40).filter(lambda text: '"' not in text))
@settings(max_examples=300, deadline=None)
def test_a_text_is_found_by_itself_in_quotes(text: str) -> None:
    assert parse_search(f'"{text}"').matches(note(f"before {text} after"))


@pytest.mark.parametrize(
    ("search", "matches"),
    [
        ("quick", True),
        ("QUICK Fox", True),
        ("quick cat", False),
        ("quic", False),
        ("quic*", True),
        ('"quick brown"', True),
        ('"brown quick"', False),
        ('"quick br"*', True),
        ('"quick br"', False),
        ("brown-fox", True),
        ("jümps", True),
        ("語", True),
        ("本語", True),
        ("日語", False),
        ("title", True),
        ('"fox a"', False),
        ('"end a"', False),
    ],
)
def test_all_terms_must_match(search: str, matches: bool) -> None:
    one = note("The quick, brown fox jumps. 日本語 end", ("title", "Title fox"), ("alt", "a"))
    filter_ = Filter(search=search)
    assert filter_.matches(one) is matches
    assert compile_filter(filter_)(one, tag_keys(one)) is matches


def test_a_search_combines_with_the_other_conditions() -> None:
    one = note("hello")
    assert Filter(kinds=frozenset([1]), search="hello").matches(one)
    assert not Filter(kinds=frozenset([2]), search="hello").matches(one)
    matcher = compile_filter(Filter(kinds=frozenset([2]), search="hello"))
    assert not matcher(one, frozenset())


def test_two_events_are_not_mistaken_for_each_other() -> None:
    # the text of the last one is kept, and both have the same id
    hello, world = note("hello"), note("world")
    query = parse_search("hello")
    assert [query.matches(one) for one in (hello, world, hello)] == [True, False, True]


def parsed(value: object) -> Filter:
    return parse_filter({"search": value}, Limits())


def test_a_search_is_kept_as_it_was_written() -> None:
    assert parsed("Best Nostr language:en").search == "Best Nostr language:en"


@pytest.mark.parametrize("text", ["", "  ", "language:en", "!?", "***", '""', "\x00"])
def test_a_search_for_nothing_is_no_condition(text: str) -> None:
    assert parsed(text) == Filter()
    assert Filter(search=text).matches(note("anything"))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "must be a string"),
        (["x"], "must be a string"),
        (7, "must be a string"),
        ("x" * (MAX_LENGTH + 1), "characters, at most"),
        (" ".join(map(str, range(MAX_WORDS + 1))), "words, at most"),
        ("日" * (MAX_WORDS + 1), "words, at most"),
    ],
)
def test_a_search_is_bounded(value: Any, reason: str) -> None:
    with pytest.raises(InvalidFilter, match=f"^invalid: search .*{reason}"):
        parsed(value)


def test_the_largest_searches_are_taken() -> None:
    assert parsed("x" * MAX_LENGTH).search
    assert parsed(" ".join(map(str, range(MAX_WORDS)))).search


def test_words_count_among_the_values_of_a_filter() -> None:
    one, two = parsed("hello").values, parsed("hello world").values
    assert (one, two) == (100, 200)


def test_a_term_is_found_by_its_form() -> None:
    assert Term(("a", "b"), is_prefix=False).form == " a b "
    assert Term(("a", "b"), is_prefix=True).form == " a b"
