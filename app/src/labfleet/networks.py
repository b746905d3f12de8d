"""Which addresses lie in networks that an admin has named."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
NAT64 = IPv6Network("64:ff9b::/96")


def is_allowed(address: Address, networks: Sequence[Network]) -> bool:
    """Whether the address lies in one of the networks.

    A network that is not itself private (0.0.0.0/0, say) does not open the private ones inside of it.
    """
    real = _meant(address)
    public = real.is_global and not real.is_multicast
    return any(real in network and (public or not network.is_global) for network in networks)


def _meant(address: Address) -> Address:
    """The address of version 4 that one of version 6 stands for, where it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
