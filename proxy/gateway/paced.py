"""Writing what is large: in pieces, between which others run, on the account of the upstream that it came from."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import anyio

from proxy.gateway.pieces import gathered
from proxy.service.courtesy import give_way
from proxy.upstream.fair import here
from proxy.upstream.share import WRITING

PIECE: Final = 1 << 18
"""Bytes that are written at once."""
_BRIEF: Final = 1 << 16
"""The same while others want the event loop."""


async def paced(body: bytes | Iterable[bytes], upstream: str, write: Callable[[bytes], Awaitable[Any]]) -> None:
    """Write a text piece by piece, as fast as its reader takes it and others leave room."""
    share = here().large(upstream)
    crowded = share.crowded
    for piece in gathered(body, _BRIEF if crowded else PIECE):
        await write(piece)
        share.charge(share.now() - len(piece) * WRITING)
        if crowded:
            give_way()
        await anyio.sleep(share.rest())
