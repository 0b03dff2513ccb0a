"""Counts the sessions of each address, if there is a limit."""

import ipaddress


class AddressCounter:
    """Counts sessions by their client's address; without a limit, it does nothing.

    An IPv6 client can choose any address in a network of 64 bits, so such a network counts as one
    address (RFC 6177).  Clients without an IP address, as behind a Unix socket, are not counted.

    Args:
        limit: `max_sessions_per_ip`.
    """

    __slots__ = ("_limit", "_counts")

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._counts: dict[str, int] = {}

    def is_full(self, ip: str | None) -> bool:
        """Tell whether `ip` has reached the limit."""
        return self._limit is not None and self._counts.get(_network(ip), 0) >= self._limit

    def add(self, ip: str | None) -> None:
        """Count one more session of `ip`."""
        if self._limit is not None and (network := _network(ip)):
            self._counts[network] = self._counts.get(network, 0) + 1

    def remove(self, ip: str | None) -> None:
        """Count one session of `ip` less."""
        if self._limit is not None and (network := _network(ip)):
            self._counts[network] -= 1
            if not self._counts[network]:
                del self._counts[network]


def _network(ip: str | None) -> str:
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
