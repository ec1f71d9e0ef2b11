import json

import pytest

from relay.protocol.event import Event
from relay.protocol.searchable import MOST_CHARACTERS, searchable

HEX = "0" * 64


def event(kind: int, content: str = "", *tags: tuple[str, ...]) -> Event:
    return Event(HEX, HEX, 1, kind, tags, content, "0" * 128)


def words(one: Event) -> tuple[list[str], list[str]]:
    found = searchable(one)
    if found is None:
        return [], []
    return found.title.split(), found.body.split()


@pytest.mark.parametrize("kind", [1, 9, 11, 42, 1111, 9802, 30023, 30402, 30818, 31923, 9999])
def test_what_people_write_is_searched(kind: int) -> None:
    assert words(event(kind, "hello")) == ([], ["hello"])


@pytest.mark.parametrize("kind", [4, 13, 14, 15, 445, 1059, 1060, 7375, 30078])
def test_what_is_private_is_never_searched(kind: int) -> None:
    assert words(event(kind, "hello", ("title", "world"), ("alt", "secret"))) == ([], [])


@pytest.mark.parametrize("kind", [3, 5, 6, 7, 16, 5100, 6100, 7000, 9007, 9735, 20001])
def test_what_programs_write_is_not_searched(kind: int) -> None:
    assert words(event(kind, "hello", ("title", "world"))) == ([], [])


@pytest.mark.parametrize("kind", [10000, 10003, 13194, 17375, 30000, 30003, 39089])
def test_of_lists_only_titles_are_searched(kind: int) -> None:
    one = event(kind, "cipher", ("title", "My list"), ("description", "of friends"))
    assert words(one) == (["my", "list"], ["of", "friends"])


def test_of_a_profile_its_names_and_texts_are_searched() -> None:
    fields = {
        "name": "jack",
        "display_name": "Jack D",
        "about": "Builds things",
        "nip05": "jack@example.com",
        "picture": "https://example.com/picture.png",
        "bot": False,
    }
    title, body = words(event(0, json.dumps(fields), ("title", "unused")))
    assert title == ["jack", "\ue000", "jack", "d", "\ue000", "jack", "example", "com"]
    assert body == ["builds", "things"]


@pytest.mark.parametrize("content", ["", "hello", "[]", '{"name":1}', '{"name":', "[" * 5000])
def test_a_profile_may_be_anything(content: str) -> None:
    assert words(event(0, content)) == ([], [])


def test_fields_of_tags_are_searched() -> None:
    one = event(
        30023,
        "The text",
        ("title", "The title"),
        ("subject", "Re"),
        ("summary", "The summary"),
        ("t", "topic"),
        ("title",),
    )
    title, body = words(one)
    assert title == ["the", "title", "\ue000", "re"]
    assert body == ["the", "text", "\ue000", "the", "summary"]


@pytest.mark.parametrize(
    ("content", "is_prose"),
    [
        ('{"a":1}', False),
        ("[1, 2]", False),
        ("[Chorus] la la la", True),
        ("{braces} in a text", True),
        ("x" * 128, True),
        ("A" * 129, False),
        ("A" * 129 + "?iv=abc", False),
        ("https://example.com/" + "a" * 200 + " look", True),
        ("日" * 200, True),
    ],
)
def test_a_content_that_cannot_be_prose_is_left_out(content: str, is_prose: bool) -> None:
    assert (searchable(event(4242, content)) is not None) == is_prose


def test_a_long_text_is_searched_in_its_beginning() -> None:
    text = "word " * (MOST_CHARACTERS // 5)
    _, body = words(event(1, text + "late", ("alt", "later")))
    assert set(body) == {"word"}
    _, body = words(event(1, text[5:] + "late", ("alt", "later")))
    assert "late" in body
