import pytest

from relay.protocol.event import (
    Event,
    KindClass,
    canonical_json,
    decode_event,
    expiration,
    identifier,
    is_ephemeral,
    is_protected,
    kind_class,
)
from tests.corpus import ODD_CONTENTS, Author

AUTHOR = Author("event tests")


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([1, 2, 4, 5, 44, 45, 999, 1000, 9999, 40000, 65535], KindClass.REGULAR),
        ([0, 3, 10000, 19999], KindClass.REPLACEABLE),
        ([20000, 29999], KindClass.EPHEMERAL),
        ([30000, 39999], KindClass.ADDRESSABLE),
    ],
)
def test_kind_ranges_are_those_of_nip_01(kinds: list[int], expected: KindClass) -> None:
    for kind in kinds:
        assert kind_class(kind) is expected
        assert is_ephemeral(kind) is (expected is KindClass.EPHEMERAL)


@pytest.mark.parametrize("content", ODD_CONTENTS)
def test_canonical_json_gives_the_same_event_back(content: str) -> None:
    event = AUTHOR.sign(1, content, [["t", content]])
    assert decode_event(canonical_json(event)) == event


def test_canonical_json_has_its_fields_at_fixed_places() -> None:
    raw = canonical_json(AUTHOR.sign(1, "x"))
    assert raw[:7] == b'{"id":"'
    assert raw[71:83] == b'","pubkey":"'
    assert raw[147:162] == b'","created_at":'


def signed(*tags: list[str]) -> Event:
    return AUTHOR.sign(30023, "", tags)


def test_a_missing_identifier_is_the_empty_string() -> None:
    assert identifier(signed()) == ""
    assert identifier(signed(["d"])) == ""
    assert identifier(signed(["d", "a"], ["d", "b"])) == "a"


def test_an_expiration_that_is_no_number_is_ignored() -> None:
    assert expiration(signed(["expiration", "100"])) == 100
    for value in ("", "-1", "soon", "1.5", "١٢", "9" * 30):
        assert expiration(signed(["expiration", value])) is None
    assert expiration(signed(["expiration"])) is None


def test_only_the_bare_tag_protects() -> None:
    assert is_protected(signed(["-"]))
    assert not is_protected(signed(["-", "x"]))
