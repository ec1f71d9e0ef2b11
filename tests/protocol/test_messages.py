import json
from typing import Any

import pytest
from hypothesis import example, given, settings

from relay.protocol.event import canonical_json
from relay.protocol.filters import Filter
from relay.protocol.limits import Limits
from relay.protocol.messages import (
    AuthMessage,
    CloseMessage,
    CountMessage,
    EventMessage,
    Message,
    NegCloseMessage,
    NegMessage,
    NegOpenMessage,
    Refusal,
    RequestMessage,
    closed,
    count,
    eose,
    event_prefix,
    neg_error,
    neg_message,
    notice,
    ok,
    ok_stored,
    parse_message,
)
from tests.corpus import Author
from tests.strategies import any_messages, filter_json, filters, valid_messages

LIMITS = Limits()
HEX = "a" * 64
NOTE = Author(1).sign(1, "hello", [["t", "x"]])


def parse(value: object) -> Message:
    return parse_message(json.dumps(value).encode(), LIMITS)


def answer(value: object) -> list[Any]:
    message = parse(value) if not isinstance(value, bytes) else parse_message(value, LIMITS)
    assert isinstance(message, Refusal), message
    decoded = json.loads(message.answer)
    assert isinstance(decoded, list)
    return decoded


def note_json(**changes: object) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(canonical_json(NOTE))
    fields.update(changes)
    return {name: value for name, value in fields.items() if value is not ...}


def test_an_event_message_gives_the_event() -> None:
    assert parse(["EVENT", note_json()]) == EventMessage(NOTE)


def test_an_event_message_may_have_white_space_anywhere() -> None:
    text = json.dumps(["EVENT", note_json()], indent=3).encode()
    assert parse_message(text, LIMITS) == EventMessage(NOTE)


def test_unknown_fields_of_an_event_are_left_out_of_what_is_stored() -> None:
    message = parse(["EVENT", note_json(seen_on="wss://elsewhere", id_=5)])
    assert message == EventMessage(NOTE)


def test_of_duplicate_keys_the_last_counts_as_in_javascript() -> None:
    text = canonical_json(NOTE).replace(b'"kind":1', b'"kind":9,"kind":1')
    assert parse_message(b'["EVENT",' + text + b"]", LIMITS) == EventMessage(NOTE)


@pytest.mark.parametrize("form", ["separate", "wrapped"])
def test_f2_both_forms_of_req_give_the_same_filters(form: str) -> None:
    two = [{"kinds": [1]}, {"authors": [HEX], "limit": 5}]
    message = parse(["REQ", "s", *two] if form == "separate" else ["REQ", "s", two])
    expected = (Filter(kinds=frozenset([1])), Filter(authors=frozenset([HEX]), limit=5))
    assert message == RequestMessage("s", expected)


@pytest.mark.parametrize("form", ["separate", "wrapped"])
def test_f2_a_single_filter_works_in_both_forms(form: str) -> None:
    message = parse(["REQ", "s", {}] if form == "separate" else ["REQ", "s", [{}]])
    assert message == RequestMessage("s", (Filter(),))


def test_equal_filters_are_answered_once() -> None:
    assert parse(["REQ", "s", {"kinds": [1, 2]}, {"kinds": [2, 1]}]) == RequestMessage(
        "s", (Filter(kinds=frozenset([1, 2])),)
    )


def test_count_close_and_auth_are_understood() -> None:
    assert parse(["COUNT", "q", {}]) == CountMessage("q", (Filter(),))
    assert parse(["CLOSE", "s"]) == CloseMessage("s")
    assert parse(["AUTH", note_json()]) == AuthMessage(NOTE)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"kind": -1}, "kind"),
        ({"kind": 65536}, "kind"),
        ({"kind": 1.0}, "kind"),
        ({"kind": "1"}, "kind"),
        ({"kind": True}, "kind"),
        ({"created_at": -1}, "created_at"),
        ({"created_at": 1.5}, "created_at"),
        ({"created_at": 10**30}, "created_at"),
        ({"pubkey": "ab"}, "pubkey"),
        ({"pubkey": None}, "pubkey"),
        ({"sig": "0" * 127}, "sig"),
        ({"tags": [[]]}, "tags"),
        ({"tags": [["e", None]]}, "tags"),
        ({"tags": [["e", 5]]}, "tags"),
        ({"tags": ["e"]}, "tags"),
        ({"tags": None}, "tags"),
        ({"content": None}, "content"),
        ({"content": ...}, "content"),
    ],
)
def test_a_bad_event_is_answered_by_ok_false_that_names_the_field(
    changes: dict[str, object], names: str
) -> None:
    verb, event_id, accepted, reason = answer(["EVENT", note_json(**changes)])
    assert (verb, event_id, accepted) == ("OK", NOTE.id, False)
    assert reason.startswith("invalid: event")
    assert names in reason


def test_a_bad_event_without_an_id_is_answered_by_notice() -> None:
    assert answer(["EVENT", note_json(id=...)])[0] == "NOTICE"
    assert answer(["EVENT", note_json(id=5)])[0] == "NOTICE"
    assert answer(["EVENT", 5])[0] == "NOTICE"
    assert answer(["EVENT"])[0] == "NOTICE"
    assert answer(["EVENT", note_json(), note_json()])[0] == "NOTICE"


@pytest.mark.parametrize(
    ("bad", "names"),
    [
        ({"ids": []}, "ids"),
        ({"kinds": []}, "kinds"),
        ({"#t": []}, "#t"),
        ({"ids": [HEX.upper()]}, "ids"),
        ({"ids": [HEX[:-1]]}, "ids"),
        ({"authors": [HEX + "0"]}, "authors"),
        ({"#e": ["abc"]}, "#e"),
        ({"#p": [HEX.upper()]}, "#p"),
        ({"ids": HEX}, "ids"),
        ({"ids": [5]}, "ids"),
        ({"#t": [5]}, "#t"),
        ({"kinds": ["1"]}, "kinds"),
        ({"kinds": [True]}, "kinds"),
        ({"kinds": [1.0]}, "kinds"),
        ({"kinds": [65536]}, "kinds"),
        ({"kinds": [10**40]}, "kinds"),
        ({"since": -1}, "since"),
        ({"since": "1"}, "since"),
        ({"until": 1.5}, "until"),
        ({"until": None}, "until"),
        ({"limit": -1}, "limit"),
        ({"limit": True}, "limit"),
        ({"ids": [HEX] * 10_001}, "ids"),
        ([], "object"),
        ("x", "object"),
        (None, "object"),
    ],
)
@pytest.mark.parametrize("verb", ["REQ", "COUNT"])
def test_a_bad_filter_is_answered_by_closed_that_names_the_field(
    verb: str, bad: object, names: str
) -> None:
    said, subscription_id, reason = answer([verb, "s", {"kinds": [1]}, bad])
    assert (said, subscription_id) == ("CLOSED", "s")
    assert reason.startswith("invalid: ")
    assert names in reason


@pytest.mark.parametrize("field", ["find", "#ee", "#", "#1", "#é", "Ids", ""])
def test_an_unknown_filter_field_is_unsupported(field: str) -> None:
    said, _, reason = answer(["REQ", "s", {field: ["x"]}])
    assert said == "CLOSED"
    assert reason.startswith("unsupported: ")


def test_every_letter_is_a_tag_of_its_own() -> None:
    message = parse(["REQ", "s", {"#t": ["x"], "#T": ["y"]}])
    assert isinstance(message, RequestMessage)
    assert message.filters[0].tags == (("T", frozenset("y")), ("t", frozenset("x")))


def test_a_limit_is_clamped_to_what_is_advertised() -> None:
    message = parse(["REQ", "s", {"limit": 10**9}])
    assert isinstance(message, RequestMessage)
    assert message.filters[0].limit == LIMITS.max_limit


@pytest.mark.parametrize("verb", ["REQ", "COUNT"])
def test_a_request_without_filters_is_closed(verb: str) -> None:
    assert answer([verb, "s"])[:2] == ["CLOSED", "s"]
    assert answer([verb, "s", []])[:2] == ["CLOSED", "s"]


def test_too_many_filters_are_closed() -> None:
    many = [{"kinds": [kind]} for kind in range(LIMITS.max_filters + 1)]
    assert answer(["REQ", "s", *many])[:2] == ["CLOSED", "s"]


@pytest.mark.parametrize("subscription_id", ["", "x" * 65, "é" * 65])
def test_a_subscription_id_has_1_to_64_characters(subscription_id: str) -> None:
    said, echoed, reason = answer(["REQ", subscription_id, {}])
    assert (said, echoed) == ("CLOSED", subscription_id)
    assert "1 to 64" in reason


def test_64_characters_of_any_script_are_a_good_subscription_id() -> None:
    assert parse(["REQ", "👩" * 64, {}]) == RequestMessage("👩" * 64, (Filter(),))


def test_an_id_that_is_no_string_is_answered_by_notice() -> None:
    assert answer(["REQ", 5, {}])[0] == "NOTICE"
    assert answer(["REQ"])[0] == "NOTICE"
    assert answer(["CLOSE"])[0] == "NOTICE"
    assert answer(["CLOSE", 5])[0] == "NOTICE"
    assert answer(["CLOSE", "a", "b"])[0] == "NOTICE"


def test_a_huge_id_is_not_echoed() -> None:
    assert answer(["REQ", "x" * 100_000, {}])[0] == "NOTICE"
    assert answer(["EVENT", {"id": "x" * 100_000}])[0] == "NOTICE"


def test_negentropy_messages_are_understood() -> None:
    assert parse(["NEG-OPEN", "n", {"kinds": [1]}, "61"]) == NegOpenMessage(
        "n", Filter(kinds=frozenset([1])), b"a"
    )
    assert parse(["NEG-MSG", "n", "61FF"]) == NegMessage("n", b"a\xff")
    assert parse(["NEG-CLOSE", "n"]) == NegCloseMessage("n")


def test_the_filter_of_a_negentropy_message_may_stand_in_an_array() -> None:
    wrapped = parse(["NEG-OPEN", "n", [{"kinds": [1]}], "61"])
    assert wrapped == parse(["NEG-OPEN", "n", {"kinds": [1]}, "61"])


def test_the_limit_of_a_negentropy_filter_is_not_clamped() -> None:
    message = parse(["NEG-OPEN", "n", {"limit": 1_000_000}, "61"])
    assert message == NegOpenMessage("n", Filter(limit=1_000_000), b"a")


@pytest.mark.parametrize(
    "elements",
    [
        ["NEG-OPEN", "n"],
        ["NEG-OPEN", "n", {}],
        ["NEG-OPEN", "n", {}, "61", "61"],
        ["NEG-OPEN", "n", [], "61"],
        ["NEG-OPEN", "n", [{}, {}], "61"],
        ["NEG-OPEN", "n", [[{}]], "61"],
        ["NEG-OPEN", "n", {"kinds": ["1"]}, "61"],
        ["NEG-OPEN", "n", {"search": "word"}, "61"],
        ["NEG-OPEN", "n", {}, "6"],
        ["NEG-OPEN", "n", {}, "zz"],
        ["NEG-OPEN", "n", {}, "6 1"],
        ["NEG-OPEN", "n", {}, "é"],
        ["NEG-OPEN", "n", {}, 61],
        ["NEG-MSG", "n"],
        ["NEG-MSG", "n", None],
        ["NEG-MSG", "n", ""],
        ["NEG-MSG", "n", "61", "61"],
        ["NEG-CLOSE", "n", "n"],
        ["NEG-ERR", "n", "closed: x"],
        ["NEG-", "n"],
        ["NEG-OPEN", "n" * 65, {}, "61"],
        ["NEG-CLOSE", ""],
    ],
    ids=repr,
)
def test_negentropy_is_refused_by_neg_err_since_clients_hang_on_a_notice(
    elements: list[Any],
) -> None:
    message = parse(elements)
    assert isinstance(message, Refusal)
    assert message.reconciliation_id == elements[1]
    assert message.subscription_id is None
    said, name, reason = json.loads(message.answer)
    assert (said, name) == ("NEG-ERR", elements[1])
    assert reason.partition(": ")[0] in ("invalid", "unsupported")


@pytest.mark.parametrize("name", [None, 5, ["n"], "n" * 1025], ids=repr)
def test_negentropy_without_an_id_to_answer_to_gets_a_notice(name: object) -> None:
    assert answer(["NEG-OPEN", name, {}, "61"])[0] == "NOTICE"
    assert answer(["NEG-CLOSE"])[0] == "NOTICE"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"null",
        b"5",
        b"{}",
        b"[]",
        b"[[]]",
        b"[5]",
        b'["NOPE"]',
        b'["event"]',
        b"[",
        b'["EVENT"',
        b'["EVENT",',
        b'["EVENT",{"id":"\xff"}]',
        b'["REQ","\xed\xa0\x80",{}]',
        b'["REQ","\\ud800",{}]',
        b'["REQ","s",{"since":NaN}]',
        b'["REQ","s",{"since":1e999}]',
        b"[" * 100_000,
        b'["EVENT",' + b"[" * 100_000,
        b'["REQ","s",' + b'{"a":' * 50_000,
        b"\x00",
        b"\xef\xbb\xbf[]",
    ],
)
def test_whatever_is_no_message_is_answered(text: bytes) -> None:
    assert answer(text)[0] in ("NOTICE", "CLOSED")


@given(any_messages)
@settings(max_examples=1000, deadline=None)
@example(b'["REQ","s",{"ids":["' + b"a" * 64 + b'"]}]')
def test_f2_no_input_of_any_shape_goes_unanswered_or_raises(text: bytes) -> None:
    message = parse_message(text, LIMITS)
    if isinstance(message, Refusal):
        said = json.loads(message.answer)
        assert said[0] in ("OK", "CLOSED", "NOTICE", "NEG-ERR")
        reason = said[-1]
        prefix, separator, words = reason.partition(": ")
        assert separator
        assert prefix in ("invalid", "unsupported")
        assert words
        if said[0] == "OK":
            assert len(said) == 4
            assert said[2] is False
    else:
        assert isinstance(
            message,
            EventMessage
            | RequestMessage
            | CountMessage
            | CloseMessage
            | AuthMessage
            | NegOpenMessage
            | NegMessage
            | NegCloseMessage,
        )


@given(valid_messages)
def test_what_a_well_behaved_client_sends_is_never_refused(text: bytes) -> None:
    assert not isinstance(parse_message(text, LIMITS), Refusal)


@given(filters)
def test_a_filter_survives_the_way_through_json(filter_: Filter) -> None:
    message = parse_message(json.dumps(["REQ", "s", filter_json(filter_)]).encode(), LIMITS)
    assert message == RequestMessage("s", (filter_,))


def test_the_relay_s_messages_are_those_of_the_texts() -> None:
    assert json.loads(ok(HEX, accepted=False, reason="pow: 3 < 5")) == [
        "OK",
        HEX,
        False,
        "pow: 3 < 5",
    ]
    assert json.loads(ok_stored(HEX)) == json.loads(ok(HEX, accepted=True)) == ["OK", HEX, True, ""]
    assert json.loads(eose('s"', complete=None)) == ["EOSE", 's"']
    assert json.loads(eose("s", complete=True)) == ["EOSE", "s", ["finish"]]
    assert json.loads(eose("s", complete=False)) == ["EOSE", "s", ["more"]]
    assert json.loads(closed("s", "error: x")) == ["CLOSED", "s", "error: x"]
    assert json.loads(neg_message("n", b"a\xff")) == ["NEG-MSG", "n", "61ff"]
    assert json.loads(neg_error("n", "blocked: x")) == ["NEG-ERR", "n", "blocked: x"]
    assert json.loads(neg_error("n", "blocked: x", 5)) == ["NEG-ERR", "n", "blocked: x", 5]
    assert json.loads(notice("a\nb")) == ["NOTICE", "a\nb"]
    assert json.loads(count("q", 5)) == ["COUNT", "q", {"count": 5}]
    event = json.loads(event_prefix('quote " \n') + canonical_json(NOTE) + b"]")
    assert event == ["EVENT", 'quote " \n', note_json()]
