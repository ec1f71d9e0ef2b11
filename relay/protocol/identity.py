"""A key pair that signs events: the relay's own (NIP-11 `self`), or a client's.

The secret is kept by the cryptographic library alone and shown by nothing here: not by `repr`, not
by an exception.
"""

import hmac
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

import coincurve

from relay.protocol.event import Event, id_bytes

_SECRET_BYTES: Final = 32


class Identity:
    """Signs events with one key."""

    __slots__ = ("_key", "pubkey")

    def __init__(self, secret: bytes) -> None:
        """Take a secret key of 32 bytes. Raises `ValueError` where it is none."""
        if len(secret) != _SECRET_BYTES:
            raise ValueError(f"a secret key has {_SECRET_BYTES} bytes")  # a shorter one is padded
        self._key = coincurve.PrivateKey(secret)
        self.pubkey: str = self._key.public_key_xonly.format().hex()
        """The public key, as 64 lowercase hexadecimal digits."""

    def __repr__(self) -> str:
        return f"Identity({self.pubkey})"

    @classmethod
    def fresh(cls) -> "Identity":
        """Return a new random identity."""
        return cls(coincurve.PrivateKey().secret)

    def derived(self, purpose: str) -> bytes:
        """Return a secret of 32 bytes for one purpose, from which the key cannot be found."""
        return hmac.digest(self._key.secret, purpose.encode(), "sha256")

    def sign(
        self, kind: int, created_at: int, tags: Iterable[Sequence[str]] = (), content: str = ""
    ) -> Event:
        """Return a signed event (NIP-01). `created_at` is in Unix seconds."""
        frozen = tuple(map(tuple, tags))
        unsigned = Event("", self.pubkey, created_at, kind, frozen, content, "")
        digest = sha256(id_bytes(unsigned)).digest()
        signature = self._key.sign_schnorr(digest).hex()
        return Event(digest.hex(), self.pubkey, created_at, kind, frozen, content, signature)
