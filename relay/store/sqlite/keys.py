"""Keys: keyed hashes that stand in the indexes for public keys, tag values and addresses.

They are short, so that indexes are small, and keyed with a secret of the store, so that nobody can
prepare values that meet in one key and make a list long. They still may meet: whoever finds a row
by a key checks the exact value on the row (`relay.store.sqlite.rows`). A hash only ever decides
where to look.

Authors have 47 bits, so that `author << 16 | kind` is one column: one author's events of one kind
are one key, all of an author's events one range of keys.

For the full-text index, a tag is the words `H` and, for each kind of event, `Hk<kind>`; an author
is `w<author>`. H is hexadecimal, so no word can be mistaken for one of another sort.
"""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Final

_KIND_BITS: Final = 16
_CACHED: Final = 1 << 15


def keyed_hash(secret: bytes, data: bytes) -> int:
    """Return 63 bits that only who knows `secret` can predict."""
    return int.from_bytes(blake2b(data, digest_size=8, key=secret).digest()) >> 1


class Keys:
    """The keys of one store, made with its `secret`.

    Values recur (the same people and topics are named again and again), so recent ones are kept:
    80 ns instead of 900.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.author = lru_cache(_CACHED)(self._author)
        self.tag_word = lru_cache(_CACHED)(self._tag_word)

    def _author(self, pubkey: str) -> int:
        return keyed_hash(self._secret, b"p" + pubkey.encode()) >> _KIND_BITS

    def _tag_word(self, key: str) -> str:
        return f"{keyed_hash(self._secret, b't' + key.encode()):x}"

    def author_kind(self, pubkey: str, kind: int) -> int:
        """Return the key of an author's events of one kind."""
        return self.author(pubkey) << _KIND_BITS | kind

    def author_word(self, pubkey: str) -> str:
        """Return the full-text word of an author."""
        return f"w{self.author(pubkey):x}"

    def address(self, address: str) -> int:
        """Return the key of an address, as `relay.store.semantics.address` spells it."""
        return keyed_hash(self._secret, b"a" + address.encode())

    def id_tombstone(self, event_id: str, pubkey: str) -> int:
        """Return the key of an event that its author wants gone.

        The author's part is secret, so nobody can make another author's list of tombstones long.
        """
        return id_prefix(event_id) ^ self.author(pubkey)

    def words(self, pubkey: str, kind: int, tag_keys: Iterable[str]) -> str:
        """Return an event's entry in the full-text index: that of at least one tag."""
        words = list(map(self.tag_word, tag_keys))
        suffix = f"k{kind}"
        return f"{self.author_word(pubkey)} {' '.join(words)} {f'{suffix} '.join(words)}{suffix}"


def kind_of(author_kind: int) -> int:
    """Return the kind in an author-and-kind key."""
    return author_kind & ((1 << _KIND_BITS) - 1)


def id_prefix(event_id: str) -> int:
    """Return what the index of ids holds: the first 63 bits."""
    return int(event_id[:16], 16) >> 1
