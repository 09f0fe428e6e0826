"""Connecting to an HTTP server: names, addresses of both families at once (RFC 8305), TLS."""

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import aiohappyeyeballs
from yarl import URL

from proxy.upstream.http_connection import Connection

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for a TCP connection and its TLS handshake."""
_STAGGER: Final = 0.25
"""Seconds after which the next address is tried beside the one before (RFC 8305)."""
_RESOLVED: Final = 10.0
"""Seconds for which the addresses of a host count."""

Addresses = Sequence[Any]
"""What ``getaddrinfo`` finds."""


class Unconnected(Exception):
    """No connection could be made; nothing was sent."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@cache
def trust() -> ssl.SSLContext:
    """How servers are verified: by the authorities of this system, and by their name. Made once: it costs 20 ms."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Connects to one server.

    Args:
        address: whose scheme, host and port count.
    """

    def __init__(self, address: URL) -> None:
        self._host = address.raw_host or ""
        self._port = address.port or 0
        self._tls = address.scheme == "https"
        self._known: Addresses = ()
        self._until = 0.0
        self._resolving = asyncio.Lock()

    async def dial(self, lost: Callable[[Connection], None]) -> Connection:
        """Connect. ``lost`` hears when the connection is gone.

        Raises:
            Unconnected: it cannot be done.
        """
        try:
            addresses = await self._addresses()
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await self._connect(addresses, lost)
        except (OSError, ValueError) as error:  # TimeoutError and the errors of TLS among them; a host no name can have
            raise Unconnected(error) from error

    async def _connect(self, addresses: Addresses, lost: Callable[[Connection], None]) -> Connection:
        loop = asyncio.get_running_loop()
        sock = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_STAGGER, interleave=1)
        connection = Connection(lost)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=trust() if self._tls else None,
                server_hostname=self._host.rstrip(".") if self._tls else None,
            )
        except BaseException:
            connection.abort()
            sock.close()
            raise
        if not connection.alive:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return connection

    async def _addresses(self) -> Addresses:
        async with self._resolving:  # who comes meanwhile waits for the same answer
            loop = asyncio.get_running_loop()
            if not self._known or loop.time() > self._until:
                if _numeric(self._host):
                    self._known = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                else:
                    self._known = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                self._until = loop.time() + _RESOLVED
            return self._known


def _numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
