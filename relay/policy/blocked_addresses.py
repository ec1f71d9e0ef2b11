"""Network addresses that may not connect: single ones, and networks in CIDR notation.

They are kept by the length of their prefix, so that a look-up costs one step for each length that
occurs, however many networks there are.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

_WIDEST: Final = {4: 8, 6: 16}
"""The shortest prefix, by version of the protocol: more would hardly be meant."""


class InvalidAddress(ValueError):
    """A text is no address that can be blocked. The text of the exception says why."""


def canonical_address(text: str) -> str:
    """Return an address or network as it is listed, whatever way it was written in.

    An IPv4 address that is written as one of IPv6 is itself; a network's host bits are cleared.
    Raises `InvalidAddress` for what is neither, and for networks that are too wide or hold the
    machine itself, from which proxies connect.
    """
    try:
        network = ip_network(text.strip(), strict=False)
    except ValueError:
        raise InvalidAddress(
            "must be an IPv4 or IPv6 address, or a network such as 192.0.2.0/24"
        ) from None
    if isinstance(network, IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            return canonical_address(f"{mapped}/{network.prefixlen - 96}")
        if network.network_address.scope_id is not None:
            raise InvalidAddress("must not name an interface")
    if network.prefixlen < _WIDEST[network.version]:
        raise InvalidAddress(f"is too wide: a prefix has at least {_WIDEST[network.version]} bits")
    if network.is_loopback:
        raise InvalidAddress("is the machine itself, from which proxies connect")
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    return str(network)


class BlockedAddresses:
    """The list, with a reason for each."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._networks: dict[tuple[int, int], dict[int, str]] = {}

    def __len__(self) -> int:
        return len(self._reasons)

    def __contains__(self, address: str) -> bool:
        """Tell whether this very address or network is listed, in its canonical form."""
        return address in self._reasons

    def items(self) -> list[tuple[str, str]]:
        """Return every address or network, and the reason."""
        return list(self._reasons.items())

    def block(self, address: str, reason: str) -> None:
        """Put an address or network, in its canonical form, on the list."""
        network = ip_network(address)
        key = network.version, network.max_prefixlen - network.prefixlen
        self._networks.setdefault(key, {})[int(network.network_address) >> key[1]] = address
        self._reasons[address] = reason

    def unblock(self, address: str) -> None:
        """Take it off, if it is listed."""
        if self._reasons.pop(address, None) is None:
            return
        network = ip_network(address)
        key = network.version, network.max_prefixlen - network.prefixlen
        del self._networks[key][int(network.network_address) >> key[1]]
        if not self._networks[key]:
            del self._networks[key]

    def covers(self, peer: str) -> bool:
        """Tell whether a peer's address is listed, or in a network that is."""
        if not self._networks:
            return False
        try:
            address: IPv4Address | IPv6Address = ip_address(peer)
        except ValueError:
            return False  # not a peer of the network
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        number, version = int(address), address.version
        return any(
            number >> bits in networks
            for (of, bits), networks in self._networks.items()
            if of == version
        )
