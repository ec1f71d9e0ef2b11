"""Vectors, against the plain definitions of NIP-77."""

import itertools
from hashlib import sha256
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocol.negentropy import vector as module
from relay.protocol.negentropy.codec import INFINITY, varint
from relay.protocol.negentropy.vector import Growing, Vector, vector_of

times = st.one_of(st.integers(0, 3), st.integers(0, (1 << 64) - 2))
identities = st.one_of(
    st.binary(min_size=32, max_size=32),
    st.integers(0, 5).map(lambda number: number.to_bytes(32)),
)
items = st.builds(lambda time, identity: time.to_bytes(8) + identity, times, identities)
batches = st.lists(st.lists(items, max_size=40), max_size=6)


def fingerprint(some: list[bytes]) -> bytes:
    total = sum(int.from_bytes(item[8:], "little") for item in some) % 2**256
    return sha256(total.to_bytes(32, "little") + varint(len(some))).digest()[:16]


def grown(some: list[list[bytes]]) -> Vector:
    growing = Growing()
    for batch in some:
        growing.add(batch)
    assert len(growing) == len({item for batch in some for item in batch})
    return growing.vector()


@settings(deadline=None)
@given(batches, st.data())
def test_a_vector_is_the_sorted_set(some: list[list[bytes]], data: st.DataObject) -> None:
    expected = sorted({item for batch in some for item in batch})
    # small blocks, so that a few items are many blocks
    with (
        patch.object(module, "_MOST", 6),
        patch.object(module, "_USUAL", 4),
        patch.object(module, "_STRIDE", 2),
    ):
        vector = grown(some)
        assert list(vector.items()) == expected
        assert [vector[index] for index in range(len(vector))] == expected
        start, end = sorted([data.draw(st.integers(0, len(expected))) for _ in "ab"])
        assert vector.ids(start, end) == b"".join([item[8:] for item in expected[start:end]])
        assert vector.fingerprint(start, end) == fingerprint(expected[start:end])
        edges = [0, start, end, len(expected)]
        parts = [fingerprint(expected[a:b]) for a, b in itertools.pairwise(edges)]
        assert vector.fingerprints(edges) == parts
        key = data.draw(st.one_of(items, items.map(lambda item: item[:10]), st.just(INFINITY)))
        below = sum(item < key for item in expected)
        assert vector.lower_bound(key) == below
        assert vector.lower_bound(key, start) == max(start, below)


@settings(deadline=None)
@given(batches, st.lists(items, max_size=40))
def test_what_grows_out_of_a_vector_leaves_it_as_it_was(
    some: list[list[bytes]], more: list[bytes]
) -> None:
    with patch.object(module, "_MOST", 6), patch.object(module, "_USUAL", 4):
        before = grown(some)
        kept = list(before.items())
        growing = Growing(before)
        growing.add(more)
        assert list(growing.vector().items()) == sorted({*kept, *more})
        assert list(before.items()) == kept


def test_a_listing_from_its_end_makes_whole_blocks() -> None:
    every = [number.to_bytes(8) + bytes(32) for number in range(10_000)]
    growing = Growing()
    for start in range(10_000, 0, -500):
        growing.add(reversed(every[start - 500 : start]))
    vector = growing.vector()
    assert list(vector.items()) == every
    assert len(vector.blocks) <= 10_000 // (module._USUAL // 2)
    assert vector.size == pytest.approx(growing.size)


def test_a_full_vector_is_made_of_the_usual_blocks() -> None:
    vector = vector_of(number.to_bytes(8) + bytes(32) for number in range(100_000))
    assert len(vector.blocks) == -(-100_000 // module._USUAL)


def test_the_fingerprint_of_nothing() -> None:
    assert Vector().fingerprint(0, 0) == sha256(bytes(33)).digest()[:16]
