"""What the SDK can write, of what upstreams answer."""

from typing import Final

from proxy.errors import ProtocolFault
from proxy.model import Reply
from proxy.wire.depth import too_deep

DEEPEST_RESULT: Final = 200
"""Levels that a result may have where the SDK writes it: it fails beyond some 250, and then answers nothing at all."""


def writable(reply: Reply, upstream: str) -> Reply:
    """The reply, if the SDK can write it.

    Raises:
        ProtocolFault: it is nested too deeply.
    """
    if too_deep(reply.raw, DEEPEST_RESULT):
        raise ProtocolFault("its result is nested too deeply to be passed on", upstream=upstream)
    return reply
