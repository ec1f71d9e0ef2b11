"""Blocked addresses, against the plain way to look at every network."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import hypothesis.strategies as st
from hypothesis import given, settings

from relay.policy.blocked_addresses import BlockedAddresses, InvalidAddress, canonical_address

# few enough numbers that networks and addresses meet
PARTS = st.sampled_from([0, 1, 2, 127, 128, 254, 255])
IPV4 = st.lists(PARTS, min_size=4, max_size=4).map(lambda parts: str(IPv4Address(bytes(parts))))
IPV6 = st.lists(PARTS, min_size=3, max_size=3).map(
    lambda parts: str(IPv6Address(bytes([32, 1, *parts[:2], *bytes(11), parts[2]])))
)
MAPPED = IPV4.map(lambda address: f"::ffff:{address}")
NETWORKS = st.one_of(
    IPV4,
    IPV6,
    MAPPED,
    st.tuples(IPV4, st.integers(8, 32)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    st.tuples(IPV6, st.integers(16, 128)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
)


def plainly(networks: set[str], peer: str) -> bool:
    address = ip_address(peer)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in ip_network(network) for network in networks)


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(st.tuples(st.booleans(), NETWORKS), max_size=12),
    peers=st.lists(st.one_of(IPV4, IPV6, MAPPED), min_size=1, max_size=12),
)
def test_a_peer_is_covered_as_by_looking_at_every_network(
    steps: list[tuple[bool, str]], peers: list[str]
) -> None:
    blocked = BlockedAddresses()
    networks: set[str] = set()
    for block, text in steps:
        try:
            name = canonical_address(text)
        except InvalidAddress:
            continue  # the machine itself
        if block:
            blocked.block(name, "reason")
            networks.add(name)
        else:
            blocked.unblock(name)
            networks.discard(name)
        assert canonical_address(name) == name
    assert {address for address, _ in blocked.items()} == networks
    assert len(blocked) == len(networks)
    for peer in peers:
        assert blocked.covers(peer) is plainly(networks, peer)
