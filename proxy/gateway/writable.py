"""What every door can write, of what upstreams answer."""

from typing import Final

from proxy.errors import ProtocolFault
from proxy.model import Reply
from proxy.wire.depth import too_deep

DEEPEST_RESULT: Final = 200
"""Levels that a result may have: the SDK fails beyond some 250, and then answers nothing at all. The express lane could
write more, but what passes must not depend on the way that a request happens to take."""


def writable(reply: Reply, upstream: str) -> Reply:
    """The reply, if it can be written at every door.

    Raises:
        ProtocolFault: it is nested too deeply.
    """
    body = reply.body
    if body.depth > DEEPEST_RESULT if body is not None else too_deep(reply.small, DEEPEST_RESULT):
        raise ProtocolFault("its result is nested too deeply to be passed on", upstream=upstream)
    return reply
