from collections.abc import Callable

import msgspec
import pytest

from relay.protocol.event import Event
from relay.protocol.verify import (
    BAD_ID,
    BAD_PUBKEY,
    BAD_SIGNATURE,
    SignatureVerifier,
    event_digest,
    event_problem,
)
from tests.corpus import Author, traffic_list

AUTHOR = Author("verify")
NOTE = AUTHOR.sign(1, "hello")


def resigned(event: Event, **changes: object) -> Event:
    """Change fields and set the id right, so that only the signature can be wrong."""
    changed = msgspec.structs.replace(event, **changes)
    return msgspec.structs.replace(changed, id=_computed(changed))


def _computed(event: Event) -> str:
    from relay.protocol.event import computed_id  # noqa: PLC0415

    return computed_id(event)


def test_mixed_traffic_is_genuine() -> None:
    verifier = SignatureVerifier()
    assert {event_problem(event, verifier) for event in traffic_list(500)} == {None}


@pytest.mark.parametrize(
    ("forge", "problem"),
    [
        (lambda e: msgspec.structs.replace(e, content="changed"), BAD_ID),
        (lambda e: msgspec.structs.replace(e, id=e.id.upper()), BAD_ID),
        (lambda e: resigned(e, content="changed"), BAD_SIGNATURE),
        (lambda e: resigned(e, pubkey=Author("other").pubkey), BAD_SIGNATURE),
        (lambda e: resigned(e, pubkey="f" * 64), BAD_PUBKEY),
        (lambda e: resigned(e, pubkey="z" * 64), BAD_PUBKEY),
        (lambda e: resigned(e, pubkey=e.pubkey.upper()), BAD_PUBKEY),
        (lambda e: msgspec.structs.replace(e, sig="0" * 128), BAD_SIGNATURE),
        (lambda e: msgspec.structs.replace(e, sig="f" * 128), BAD_SIGNATURE),
        (lambda e: msgspec.structs.replace(e, sig=e.sig.upper()), BAD_SIGNATURE),
        (lambda e: msgspec.structs.replace(e, sig=" " + e.sig[:127]), BAD_SIGNATURE),
        (lambda e: msgspec.structs.replace(e, sig="x" * 128), BAD_SIGNATURE),
    ],
)
def test_a_forgery_is_named(forge: Callable[[Event], Event], problem: str) -> None:
    assert event_problem(forge(NOTE), SignatureVerifier()) == problem


def test_a_flood_of_new_keys_does_not_grow_the_memory_of_keys() -> None:
    verifier = SignatureVerifier(capacity=3)
    for seed in range(10):
        assert event_problem(Author(seed).sign(1, "x"), verifier) is None
    assert verifier._key.cache_info().currsize == 3
    assert event_problem(Author(0).sign(1, "again"), verifier) is None


def test_the_digest_settles_the_id() -> None:
    digest = event_digest(NOTE)
    assert digest is not None
    assert digest.hex() == NOTE.id
