"""The normal form of text for search: lowercase words, one space before, between and after.

It is made in one place, and used for what is indexed, for what is asked, and for what is compared
live, so that the three agree by construction. A tokenizer that knows nothing but spaces takes the
words apart just here (SQLite's `ascii`; PostgreSQL's `simple` over an array of the words).

1. Case is folded, and compatibility forms are resolved (NFKC: full width, ligatures, circled).
2. Accents go: of Latin, Greek and Cyrillic letters (not those that make another letter of the
   Cyrillic alphabets), Arabic and Hebrew vowel points. What readers take for variants of spelling
   is made equal: O with a stroke and without, sharp s and double s, the forms of Arabic alef.
3. A word is a run of letters, digits, and marks that belong to letters (Indic vowels). It is cut
   after 64 characters, which is enough for any name, and for an npub.
4. Scripts that put no spaces between words (Han, Kana, Thai and its neighbours), and Hangul, whose
   particles are written together with the word, are taken apart into characters. Whoever asks for
   some of these in a row finds them in the midst of a text. A pictograph is a word, too.

What is ASCII is folded as bytes: a note of 250 characters costs 3 µs, in Cyrillic 20.
"""

import re
import unicodedata
from typing import Final

LONGEST_WORD: Final = 64
"""Characters of a word that count. The rest is as if it were not there."""

_FOLDED: Final = bytes(
    code if code >= 0x80 else ord(chr(code).lower()) if chr(code).isalnum() else 0x20
    for code in range(256)
)
"""For UTF-8: ASCII letters become small; what is neither letter nor digit becomes a space."""
_FOREIGN: Final = re.compile(r"[^\x00-\x7f]+")
_LONG_WORD: Final = re.compile(rf"(?<=[^ ]{{{LONGEST_WORD}}})[^ ]+")
_MOST_FORMS: Final = 20_000
"""Characters whose form is remembered: what all peers together can make this hold."""

_PICTOGRAPH: Final = re.compile("[\u2600-\u27bf\U0001f000-\U0001f3fa\U0001f400-\U0001faff]").match
_SPLIT: Final = re.compile(
    "["
    "\u0e00-\u0fff"  # Thai, Lao, Tibetan
    "\u1000-\u109f\u1780-\u17ff\u1980-\u19df\u1a20-\u1aaf"  # Myanmar, Khmer, Tai
    "\u1100-\u11ff\uac00-\ud7ff"  # Hangul
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"  # Han
    "\u3041-\u30ff\u31f0-\u31ff\u3100-\u318f\u31a0-\u31bf"  # Kana, Bopomofo
    "\ua000-\ua4cf"  # Yi
    "]"
).match
_ACCENTS: Final = re.compile(
    "["
    "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # Hebrew
    "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed"  # Arabic
    "\u00ad\u200b-\u200f\u2060\ufe00-\ufe0f\ufeff"  # invisible: joiners, variation selectors
    "\U0001f3fb-\U0001f3ff"  # tones of skin
    "]"
)
_OWN_LETTERS: Final = "\u0439\u0457\u045e"
"""Cyrillic short i, yi and short u: with another mark, other letters."""
_VARIANTS: Final = str.maketrans(
    {
        "\u00f8": "o",
        "\u0142": "l",
        "\u0111": "d",
        "\u00f0": "d",
        "\u0127": "h",
        "\u0131": "i",  # dotless
        "\u00e6": "ae",
        "\u0153": "oe",
        "\u00fe": "th",
        "\u0649": "\u064a",  # alef maksura, yeh
        "\u06cc": "\u064a",  # Persian yeh
        "\u06a9": "\u0643",  # Persian kaf
        "\u0629": "\u0647",  # teh marbuta, heh
        "\u0671": "\u0627",  # alef wasla
    }
)


def normal_form(text: str) -> str:
    """Return the words of `text`, each between single spaces; one space where there is none."""
    if not text.isascii():
        # folding may take apart what was composed, and composing may give capitals
        composed = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        text = _FOREIGN.sub(_foreign_form, composed)
    words = text.encode(errors="replace").translate(_FOLDED).split()
    if not words:
        return " "
    form = f" {b' '.join(words).decode()} "
    return _LONG_WORD.sub("", form) if max(map(len, words)) > LONGEST_WORD else form


def _foreign_form(run: re.Match[str]) -> str:
    return run[0].translate(_forms)


class _Forms(dict[int, str]):
    """What characters beyond ASCII become, found out when they are met."""

    def __missing__(self, code: int) -> str:
        if len(self) >= _MOST_FORMS:
            self.clear()
        form = self[code] = _form(chr(code))
        return form


_forms: Final = _Forms()


def _form(character: str) -> str:
    if character in _OWN_LETTERS:
        return character
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", character)).casefold()
    form = ""
    for letter in unicodedata.normalize("NFC", bare).translate(_VARIANTS):
        if _PICTOGRAPH(letter) or (_SPLIT(letter) and _is_part_of_word(letter)):
            form += f" {letter} "
        elif _is_part_of_word(letter):
            form += letter
        else:
            form += " "
    return form


def _is_part_of_word(letter: str) -> bool:
    return letter.isalnum() or unicodedata.category(letter).startswith("M")
