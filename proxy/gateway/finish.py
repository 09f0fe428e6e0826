"""The last touch on a result before it leaves: URIs, era, revision. The same for every lane."""

from typing import Any

import msgspec

from proxy.agents import rewrite
from proxy.bridge.convert import CACHEABLE, Crossing, result_for
from proxy.bridge.revisions import for_version
from proxy.gateway.pieces import Parts, relaid
from proxy.model import HANDSHAKE_VERSIONS, META_SERVER_INFO, Body, Caller, Era, Params, Reply
from proxy.router import Routed

_HANDSHAKE = Era.HANDSHAKE
_LATEST = HANDSHAKE_VERSIONS[-1]
_BLOCKS = "2025-06-18"
"""Since then no content block of a result is written down to another kind."""
_META = b'"_meta"'
_RESULT_TYPE = b'"resultType"'
_STRUCTURED = b'"structuredContent"'


class Finish:
    """Shapes results for downstreams.

    Args:
        server_info: how Manifold signs modern results.
    """

    def __init__(self, server_info: Params) -> None:
        self._server_info = server_info
        stamp = msgspec.json.encode({META_SERVER_INFO: server_info})
        self._signed = b'{"_meta":' + stamp
        self._complete = b'{"resultType":"complete","_meta":' + stamp

    def own(self, caller: Caller, method: str, result: dict[str, Any]) -> dict[str, Any]:
        """A result that Manifold made itself."""
        return self._shaped(Crossing(caller.era, caller.era), caller, method, result)

    def reply(self, caller: Caller, method: str, routed: Routed, reply: Reply) -> dict[str, Any]:
        """A result of an upstream, decoded."""
        result = rewrite.result(routed.view, routed.route.upstream, method, reply.result)
        return self._shaped(Crossing(reply.era, caller.era), caller, method, result)

    def raw(self, caller: Caller, method: str, routed: Routed, reply: Reply) -> bytes | Parts:
        """A result of an upstream, a large one in pieces; not decoded where nothing inside has to be touched."""
        if not rewrite.touches(routed.view, routed.route.upstream, reply):
            if reply.body is not None:
                if parts := self._in_pieces(caller, method, reply, reply.body):
                    return parts
            elif caller.era is reply.era is _HANDSHAKE:
                raw = reply.small
                if caller.version == _LATEST and _STRUCTURED not in raw:
                    return raw
            elif caller.era is Era.MODERN and method not in CACHEABLE and (signed := self._spliced(reply)):
                return signed
        return msgspec.json.encode(self.reply(caller, method, routed, reply))

    def _in_pieces(self, caller: Caller, method: str, reply: Reply, body: Body) -> Parts | None:
        if body.head is None or (caller.era is Era.HANDSHAKE and caller.version < _BLOCKS):
            return None
        return relaid(body, self._shaped(Crossing(reply.era, caller.era), caller, method, body.head))

    def _spliced(self, reply: Reply) -> bytes | None:
        """The envelope of the modern era put before the members of a result that has no ``_meta`` of its own."""
        raw = reply.small
        if not raw.startswith(b"{") or _META in raw:
            return None
        head = self._signed if _RESULT_TYPE in raw else self._complete
        rest = raw[1:].lstrip()
        return head + (b"}" if rest == b"}" else b"," + rest)

    def _shaped(self, crossing: Crossing, caller: Caller, method: str, result: Any) -> dict[str, Any]:
        shaped = result_for(crossing, method, result, self._server_info)
        return shaped if caller.era is Era.MODERN else for_version(caller.version, method, shaped)
