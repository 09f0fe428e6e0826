"""The way back to a downstream while one of its requests is being served."""

from typing import Any, Final

import anyio
import structlog
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError, NoBackChannelError

from proxy.agents import rewrite
from proxy.agents.view import View
from proxy.bridge.questions import check_permitted
from proxy.errors import METHOD_NOT_FOUND, Rejected
from proxy.gateway import seams
from proxy.model import Caller, Era, Json, Params
from proxy.upstream.session import LEVELS

log = structlog.get_logger(__name__)

LOG: Final = "notifications/message"


def wants_log(caller: Caller, params: Params | None) -> bool:
    """Whether a downstream asked for log lines of this level; a modern one that asked for none gets none."""
    wanted = caller.log_level
    if wanted is None:
        return caller.era is Era.HANDSHAKE
    level = (params or {}).get("level")
    return level not in LEVELS or wanted not in LEVELS or LEVELS.index(level) >= LEVELS.index(wanted)


class RequestBackchannel:
    """Carries what belongs to one downstream request on that request's own stream.

    ``view`` and ``upstream`` are set once the request is routed: URIs on the way back are those of that upstream.
    """

    __slots__ = ("_caller", "_channel", "_token", "upstream", "view")

    def __init__(self, ctx: ServerRequestContext[Any, Any], caller: Caller) -> None:
        self._channel = seams.request_channel(ctx)
        self._caller = caller
        self.view: View | None = None
        self.upstream = ""
        meta = (ctx.params or {}).get("_meta")
        token = meta.get("progressToken") if isinstance(meta, dict) else None
        self._token: str | int | None = token if isinstance(token, str | int) and not isinstance(token, bool) else None

    @property
    def progress_token(self) -> str | int | None:
        """The token under which the downstream expects progress."""
        return self._token

    async def notify(self, method: str, params: Params | None) -> None:
        """Deliver it; a downstream that has gone away is no error of the upstream's."""
        if method == LOG and not wants_log(self._caller, params):
            return
        try:
            await self._channel.notify(method, self._mapped(method, params))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            log.debug("downstream.notify.dropped", method=method)
        except (ValueError, RecursionError) as error:
            # The SDK cannot write it: nested too deeply, say. The upstream's call goes on without it.
            log.warning("downstream.notify.unwritable", method=method, upstream=self.upstream, reason=str(error)[:200])

    def _mapped(self, method: str, params: Params | None) -> Params | None:
        return params if self.view is None else rewrite.incoming(self.view, self.upstream, method, params)

    async def ask(self, method: str, params: Params | None) -> Json:
        """Put a question to the downstream.

        Raises:
            Rejected: it answered with an error, or this connection cannot carry questions.
        """
        check_permitted(method, params, self._caller.capabilities)
        try:
            return await self._channel.send_raw_request(method, self._mapped(method, params))
        except NoBackChannelError as error:
            raise Rejected(METHOD_NOT_FOUND, f"{method}: the client cannot be asked on this connection") from error
        except MCPError as error:
            raise Rejected(error.error.code, error.error.message, error.error.data) from error
