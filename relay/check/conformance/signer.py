r"""Keys of one test only, and events signed with them, in whatever form a test wants.

The id is computed here, apart from the relay's own code, from the text of NIP-01: two errors that
agree would be found by nobody. Python's `json` writes what deployed clients write: the seven short
escapes, `\u00xx` for other control characters, everything else as it is.
"""

import base64
import json
import os
import re
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import coincurve

from relay.check.errors import CheckError

_SECRET: Final = re.compile(r"[0-9a-fA-F]{64}").fullmatch

WireEvent = dict[str, Any]
"""An event as it travels, or what a test sends in place of one."""
Tags = Sequence[Sequence[str]]


def event_id(event: WireEvent) -> str:
    """Return the id that NIP-01 gives to these fields."""
    fields = [event[name] for name in ("pubkey", "created_at", "kind", "tags", "content")]
    text = json.dumps([0, *fields], ensure_ascii=False, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def now() -> int:
    """Return the time as events tell it."""
    return int(time.time())


class Signer:
    """One key: a new one, or the one whose 32 bytes are given."""

    def __init__(self, secret: bytes | None = None) -> None:
        self._key = coincurve.PrivateKey(secret)
        self.pubkey: str = self._key.public_key_xonly.format().hex()

    def sign(
        self,
        kind: int = 1,
        content: str = "",
        tags: Tags = (),
        created_at: int | None = None,
    ) -> WireEvent:
        """Return a signed event; `created_at` is now unless it is given."""
        event = {
            "pubkey": self.pubkey,
            "created_at": now() if created_at is None else created_at,
            "kind": kind,
            "tags": [list(tag) for tag in tags],
            "content": content,
        }
        return self.seal(event)

    def seal(self, event: WireEvent) -> WireEvent:
        """Return the event with an id and a signature that fit it, right or wrong as it is."""
        digest = event_id(event)
        return {"id": digest, **event, "sig": self.signature(digest)}

    def signature(self, digest: str) -> str:
        """Return the signature of an id, in hex."""
        return self._key.sign_schnorr(bytes.fromhex(digest), os.urandom(32)).hex()

    def mined(self, bits: int, *, exactly: bool, commit: int | None = None) -> WireEvent:
        """Return a note whose id begins with `bits` zero bits: with no more, if `exactly`.

        Its nonce tag commits to `commit`, or to `bits`. Takes 2 to the power of `bits` attempts.
        """
        event = {"pubkey": self.pubkey, "created_at": now(), "kind": 1, "content": "mined"}
        target = str(bits if commit is None else commit)
        for nonce in range(1 << 30):
            attempt = {**event, "tags": [["nonce", str(nonce), target]]}
            found = zero_bits(event_id(attempt))
            if found == bits or (found > bits and not exactly):
                return self.seal(attempt)
        raise AssertionError("nobody mines for so long")


def administrator(text: str) -> Signer:
    """Return the signer with the secret key in `text`. Raises `CheckError` when that is none."""
    # the text is not told: it may be a key nevertheless
    if _SECRET(text.strip()) is None:
        raise CheckError("the administrator's key is not 64 hexadecimal digits")
    try:
        return Signer(bytes.fromhex(text.strip()))
    except ValueError:
        raise CheckError("the administrator's key is no secret key") from None


def zero_bits(digest: str) -> int:
    """Return how many zero bits a hex string begins with (NIP-13)."""
    return len(digest) * 4 - int(digest, 16).bit_length()


def authorization(event: WireEvent) -> str:
    """Return the value of an `Authorization` header (NIP-98)."""
    return "Nostr " + base64.b64encode(json.dumps(event).encode()).decode()
