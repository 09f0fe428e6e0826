"""Large results are given back to the system little by little.

To free 50 MB at once takes 4 to 8 ms, in which nobody else runs: the system takes back page by page. From the end on it
can be done in steps, for it is the end of the heap that is given back.
"""

import asyncio
from typing import Final

from proxy.gateway.pieces import Parts
from proxy.service.courtesy import give_way

_SOON: Final = 0.01
"""Seconds after which nobody holds the pieces any more but we."""
_EVERY: Final = 0.001
_AT_ONCE: Final = 8
"""Pieces that are freed in one turn of the event loop; mostly of 64 KiB."""


def let_go(parts: Parts) -> None:
    """Hold the pieces of a result that was written, and free them step by step."""
    if len(parts) > _AT_ONCE:
        asyncio.get_running_loop().call_later(_SOON, _some, parts.copy())  # a history may keep the list


def _some(parts: Parts) -> None:
    del parts[-_AT_ONCE:]
    give_way()
    if parts:
        asyncio.get_running_loop().call_later(_EVERY, _some, parts)
