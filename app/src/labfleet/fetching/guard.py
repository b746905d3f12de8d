"""Where this process may connect to: only what the admin's setting names, whatever a name resolves to.

It is asked at the moment of each connection, for the very address that is connected to: a redirect, a name
that resolves to something else the second time, or a handler of somebody else's can't get around it. The unit
holds the process to the same networks besides (`IPAddressDeny=`), for code that is not Python's.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any

from labfleet.fetching.handlers.base import Refused
from labfleet.networks import Network, is_allowed

_WATCHED = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})


def only_to(networks: Sequence[Network], ports: Sequence[int]) -> None:
    """From now on this process connects to these networks and ports only. It can't be taken back."""

    def look(event: str, given: tuple[Any, ...]) -> None:
        if event in _WATCHED and given[0].family in {socket.AF_INET, socket.AF_INET6}:
            check(given[1], networks, ports)

    sys.addaudithook(look)


def check(address: Any, networks: Sequence[Network], ports: Sequence[int]) -> None:
    """`Refused` unless this address of a socket, which is no name, may be connected to."""
    if address is None:  # a datagram socket that is connected
        return
    host, port = address[0], address[1]
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        raise Refused("a host's name may not be connected to before it was resolved") from None
    shown = f"[{found}]" if isinstance(found, IPv6Address) else str(found)
    if not is_allowed(found, networks):
        raise Refused(f"its address {shown} lies in no network that may be fetched from")
    if port not in ports:
        allowed = ", ".join(map(str, ports)) or "none"
        raise Refused(f"its port {port} may not be fetched from (allowed: {allowed})")
