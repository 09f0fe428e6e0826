"""Which addresses a URL that was learned from the network may lead to: the guard against request forgery. Pure.

Whoever answers at an upstream's URL chooses where its metadata, its authorization server and their endpoints are. Only
public addresses count, and those of a private network where the operator's own URLs are in the very same one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address

LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_PRIVATE: Final = tuple(
    ip_network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
_METADATA: Final = frozenset(map(ip_address, ("169.254.169.254", "fd00:ec2::254", "100.100.100.200")))
"""Where clouds hand out credentials to whoever asks. Never by range."""
_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Trust:
    """What the operator's own URLs make acceptable."""

    origins: frozenset[str] = frozenset()
    """Their origins: what the operator wrote is asked as it was written."""
    addresses: frozenset[Address] = frozenset()
    """Where their hosts are."""

    @property
    def loopback(self) -> bool:
        """Whether one of them is on this machine."""
        return any(_within(one, LOOPBACK) for one in self.addresses)

    def allows(self, text: str) -> bool:
        """Whether an address may be connected to."""
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            return False
        return address in self.addresses or all(self._allows(one) for one in (address, *_inside(address)))

    def _allows(self, address: Address) -> bool:
        if address in _METADATA:
            return False
        if address.is_global and not address.is_multicast:
            return True
        return any(
            _within(address, (network,)) and any(_within(own, (network,)) for own in self.addresses)
            for network in (*LOOPBACK, *_PRIVATE)
        )


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, in lower case and with the port spelt out; empty if it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme.lower(), 0)
    except ValueError:
        return ""
    return f"{parts.scheme.lower()}://{(parts.hostname or '').lower()}:{port}" if parts.hostname else ""


def url_refused(url: str, trust: Trust) -> str:
    """Why a URL is not asked, apart from where its host is; empty if it may be."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no valid URL"
    if not host or not url.isprintable() or " " in url or "%" in host:
        return "is no valid URL"
    if parts.username is not None or parts.password is not None:
        return "has a user in it"
    if origin_of(url) in trust.origins or parts.scheme.lower() == "https":
        return ""
    if parts.scheme.lower() != "http":
        return "is no https URL"
    return "" if trust.loopback and _is_loopback(host) else "is not encrypted (http)"


def _is_loopback(host: str) -> bool:
    try:
        return _within(ip_address(host), LOOPBACK)
    except ValueError:
        return host.lower() == "localhost"


def _within(address: Address, networks: Iterable[object]) -> bool:
    return any(address in network for network in networks)  # type: ignore[operator]


def _inside(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for where it is translated on the way."""
    if not isinstance(address, IPv6Address):
        return
    for one in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())):
        if one is not None:
            yield one
    compatible = int(address) >> 32 == 0 and int(address) > 1
    if compatible or any(address in network for network in _NAT64):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
