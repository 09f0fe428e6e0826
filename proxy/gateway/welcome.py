"""Opening handshake sessions on the express lane: ``initialize`` without an SDK session (docs/decisions/0020).

The answer is what the SDK and the relay would say. Only an ``initialize`` with which nobody could find fault is served
here; the SDK says what is wrong with any other one.
"""

from collections import OrderedDict
from typing import Any, Final, NamedTuple

import msgspec
from mcp.server.lowlevel.server import Server
from mcp_types import Implementation, InitializeRequestParams, InitializeResult, methods
from mcp_types.version import LATEST_HANDSHAKE_VERSION
from pydantic import ValidationError

from proxy.errors import UnknownServer
from proxy.gateway import seams
from proxy.gateway.downstream import Introduced, Who, newcomer
from proxy.gateway.opened import Open
from proxy.gateway.present import introduced
from proxy.gateway.room import Room
from proxy.gateway.sessions import Sessions
from proxy.model import HANDSHAKE_VERSIONS, Caller, Era, Params
from proxy.runtime import Runtime
from proxy.upstream.pool import canonical
from proxy.wire import envelope

INITIALIZE: Final = "initialize"
MAX_KNOWN: Final = 128
"""Introductions that are remembered: most clients of a Manifold are alike, and then share what they have said."""
LARGEST: Final = 4 * 1024
"""Bytes of an introduction that the lane takes."""

_Known = tuple[bytes, str, Introduced]


class Arrival(NamedTuple):
    """Somebody for whom a session can be opened."""

    hello: bytes
    """The params of the ``initialize``."""
    caller: Caller
    result: bytes
    """The answer."""


class Welcome:
    """Opens sessions.

    Args:
        runtime: the views.
        server: the SDK's, which knows how Manifold is called.
        sessions: where they are kept.
        room: whether there is room for one.
    """

    def __init__(self, runtime: Runtime, server: Server[Any], sessions: Sessions, room: Room) -> None:
        self._runtime = runtime
        self._server = server
        self._sessions = sessions
        self._room = room
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def arrived(self, message: envelope.Message, params: Params, who: Who) -> Arrival | None:
        """Somebody who introduces himself; None if that is for the SDK."""
        known = self._introduced(message, params)
        if known is None:
            return None
        hello, version, about = known
        try:
            result = introduced(self._result(version), self._runtime, Era.HANDSHAKE, who.agent)
        except UnknownServer:
            return None
        return Arrival(hello, newcomer(version, about, who), msgspec.json.encode(result))

    async def open(self, arrival: Arrival) -> Open | None:
        """Open his session; None if all that there may be are busy."""
        async with self._room.coming():
            return self._sessions.open(arrival.caller, arrival.hello) if self._room.left else None

    def _introduced(self, message: envelope.Message, params: Params) -> _Known | None:
        """The params as bytes, the revision that is spoken, and what the client said of itself."""
        hello, number = bytes(message.params), message.id
        if not isinstance(number, int | str) or isinstance(number, bool) or len(hello) > LARGEST:
            return None
        known = self._known.get(hello)
        if known is None:
            known = _checked(hello, params)
            if known is None:
                return None
            self._known[hello] = known
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        self._known.move_to_end(hello)
        return known

    def _result(self, version: str) -> Params:
        """What the SDK answers."""
        told = self._server.create_initialization_options()
        info = Implementation(
            name=told.server_name,
            title=told.title,
            description=told.description,
            version=told.server_version,
            website_url=told.website_url,
            icons=told.icons,
        )
        result = InitializeResult(protocol_version=version, capabilities=told.capabilities, server_info=info)
        dumped = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        return methods.serialize_server_result(INITIALIZE, version, dumped)


def _checked(hello: bytes, params: Params) -> _Known | None:
    try:
        methods.validate_client_request(INITIALIZE, LATEST_HANDSHAKE_VERSION, params)
        model = InitializeRequestParams.model_validate(params, by_name=False)
    except (ValidationError, KeyError):
        return None
    asked = model.protocol_version
    version = asked if asked in HANDSHAKE_VERSIONS else LATEST_HANDSHAKE_VERSION
    capabilities = seams.dumped(model.capabilities)
    return hello, version, Introduced(capabilities, canonical(capabilities), seams.dumped(model.client_info))
