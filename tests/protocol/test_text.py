import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocol.text import LONGEST_WORD, normal_form


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", "hello world"),
        ("don't stop_me-now", "don t stop me now"),
        ("https://example.com/a?b=1", "https example com a b 1"),
        ("a\x00b\x7fc\tD\n", "a b c d"),
        ("Crème BRÛLÉE", "creme brulee"),
        ("Cre\u0300me", "creme"),
        ("x\u0301y", "xy"),
        ("Straße Œuvre Ærø Łódź", "strasse oeuvre aero lodz"),
        ("\u0130stanbul \u0131\u015f\u0131k", "istanbul isik"),
        ("ﬁne ① \uff26\uff55\uff4c\uff4c \U0001d54f", "fine 1 full x"),
        ("soft\u00adhyphen zero\u200bwidth \ufeffmark", "softhyphen zerowidth mark"),
        ("Привет, МИР! Ёлка", "привет мир елка"),
        ("йод \u0438\u0306\u043eд її", "йод йод її"),
        ("Καλημέρα ΚΌΣΜΟΣ κόσμος", "καλημερα κοσμοσ κοσμοσ"),
        ("مُحَمَّد أحمد كتـاب", "محمد احمد كتاب"),
        ("بְּרֵאשִׁית".replace("ب", "ב"), "בראשית"),
        ("हिन्दी में", "हिन्दी में"),
        ("日本語 bitcoinは", "日 本 語 bitcoin は"),
        ("ガギ ｶﾞｷﾞ", "ガ ギ ガ ギ"),
        ("한국 \u1112\u1161\u11ab", "한 국 한"),
        ("สวัส", "ส ว ั ส"),
        ("gm🔥🤙🏽⚡️!", "gm 🔥 🤙 ⚡"),
        ("!?… —", ""),
        ("", ""),
        ("\ud800", ""),
    ],
)
def test_words(text: str, words: str) -> None:
    assert normal_form(text).split() == words.split()


@pytest.mark.parametrize("letter", ["x", "é", "ж"])
def test_a_word_is_cut_and_its_neighbours_are_not(letter: str) -> None:
    long = letter * (LONGEST_WORD + 5)
    [before, cut, after] = normal_form(f"a {long} b").split()
    assert (before, len(cut), after) == ("a", LONGEST_WORD, "b")
    assert normal_form(letter * LONGEST_WORD).strip() == cut


@given(st.text())
@settings(max_examples=500, deadline=None)
def test_the_form_is_words_between_single_spaces_and_stays_as_it_is(text: str) -> None:
    form = normal_form(text)
    words = form.split(" ")[1:-1]
    assert form == "".join([" ", *[word + " " for word in words]])
    assert all(0 < len(word) <= LONGEST_WORD for word in words)
    assert normal_form(form) == form


@given(st.text(), st.text())
@settings(max_examples=200, deadline=None)
def test_texts_apart_have_the_words_of_both(one: str, other: str) -> None:
    together = normal_form(f"{one} | {other}")
    assert together.split() == normal_form(one).split() + normal_form(other).split()


@given(st.text(alphabet=st.characters(max_codepoint=127)))
@settings(max_examples=300, deadline=None)
def test_ascii_is_no_exception(text: str) -> None:
    # what is beyond ASCII is on the long way, and must not change the words before it
    assert normal_form(f"{text} \u00a7").split() == normal_form(text).split()
