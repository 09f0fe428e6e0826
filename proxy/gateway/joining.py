"""Joining a downstream's request to its upstream, whatever the eras: straight through, suspended, or driven."""

from collections import OrderedDict
from typing import Any, Final

from msgspec.structs import replace

from proxy.bridge.drive import asks, drive, may_ask
from proxy.bridge.suspend import Asked, Claim, Suspender, url_requests
from proxy.errors import URL_ELICITATION_REQUIRED, Rejected
from proxy.gateway.state import Sealer, State, digest_of
from proxy.model import Backchannel, Era, Params, Reply
from proxy.router import Request, Routed
from proxy.runtime import Runtime

MAX_STATELESS: Final = 1024
"""Questions without a state whose exchange is remembered; of more, the oldest ones are another exchange when they go
on, which only the audit log notices."""
_HANDSHAKE: Final = Era.HANDSHAKE
"""Looked up once: a member of an enum takes long to find."""
_ROUND_KEYS = ("inputResponses", "requestState")


class Joint:
    """Sends routed requests and brings back results that the downstream's era can carry."""

    def __init__(self, runtime: Runtime, sealer: Sealer) -> None:
        self._runtime = runtime
        self.sealer = sealer
        self.suspender = Suspender(runtime.clock)
        self._stateless: OrderedDict[Claim, str] = OrderedDict()
        """The exchange of questions that came without a state, in which it could travel."""

    async def send(self, request: Request, routed: Routed, back: Backchannel) -> Reply:
        """Send a request, in as many rounds as the eras need.

        Raises:
            ManifoldError: as the tower does.
        """
        if routed.fault is not None:
            raise routed.fault
        if not self.is_plain(request, routed):
            return await self._modern(request, routed, back)
        reply = await self._runtime.router.send(routed)
        return await self.asked(reply, request, routed, back) if may_ask(reply) else reply

    def is_plain(self, request: Request, routed: Routed) -> bool:
        """Whether nothing has to be done but to send it through the router, unless its reply asks something."""
        caller = request.caller
        if caller.era is _HANDSHAKE:
            return True
        params = request.params
        return "requestState" not in params and "inputResponses" not in params and self._straight(routed)

    async def asked(self, reply: Reply, request: Request, routed: Routed, back: Backchannel) -> Reply:
        """What comes of a plain request whose reply may be a question (``may_ask``). Raises as ``send`` does."""
        if request.caller.era is Era.MODERN:
            return self._sealed(reply, request, routed.call.exchange)
        first: Reply | None = reply

        async def send(params: Params) -> Reply:
            nonlocal first
            if first is not None:
                known, first = first, None
                return known
            return await self._runtime.router.send(replace(routed, call=replace(routed.call, params=params)))

        return await drive(
            send,
            routed.call.params or {},
            back=back,
            capabilities=request.caller.capabilities,
            clock=self._runtime.clock,
        )

    async def _modern(self, request: Request, routed: Routed, back: Backchannel) -> Reply:
        token = request.params.get("requestState")
        if token is None and "inputResponses" in request.params:
            routed = _within(routed, self._stateless.pop(_claim(request), ""))
        if token is None and self._straight(routed):
            reply = await self._runtime.router.send(routed)
            return self._sealed(reply, request, routed.call.exchange) if may_ask(reply) else reply
        claim = _claim(request)
        state = None if token is None else self.sealer.open(token, claim)
        routed = _within(routed, "" if state is None else state.exchange)
        exchange = routed.call.exchange
        try:
            if state is not None and state.parked is not None:
                answers = request.params.get("inputResponses")
                found: Reply | Asked = await self.suspender.resume(
                    state.parked, claim, answers if isinstance(answers, dict) else {}, back
                )
            else:
                found = await self._first_round(routed, claim, state, back)
        except Rejected as error:
            return self._as_question(error, claim, exchange)
        if isinstance(found, Asked):
            token = self.sealer.seal(claim, parked=found.handle, exchange=exchange)
            return Reply.of(_question(found.requests, token))
        return self._sealed(found, request, exchange)

    def _straight(self, routed: Routed) -> bool:
        """Whether nothing can be parked: the upstream's era is the downstream's, or there is nobody to be asked."""
        call = routed.call
        return call.caller.told == "{}" or self._runtime.registry[call.upstream].era is Era.MODERN

    async def _first_round(self, routed: Routed, claim: Claim, state: State | None, back: Backchannel) -> Reply | Asked:
        call = replace(routed.call, params=_with_state(routed.call.params or {}, state))
        if self._straight(routed):
            return await self._runtime.router.send(replace(routed, call=call))

        async def send(parked: Backchannel) -> Reply:
            plain = {key: value for key, value in (call.params or {}).items() if key not in _ROUND_KEYS}
            return await self._runtime.router.send(replace(routed, call=replace(call, params=plain, back=parked)))

        return await self.suspender.start(claim, call.caller.capabilities, back, send)

    def _sealed(self, reply: Reply, request: Request, exchange: str) -> Reply:
        """An upstream's question with its state inside ours; anything else as it is."""
        result = reply.result
        if not asks(result):
            return reply
        if result.get("requestState") is None:
            self._remember(_claim(request), exchange)
            return reply
        sealed = self.sealer.seal(_claim(request), upstream=result["requestState"], exchange=exchange)
        question = Reply.of({**result, "requestState": sealed})
        question.era = reply.era
        return question

    def _remember(self, claim: Claim, exchange: str) -> None:
        self._stateless[claim] = exchange
        if len(self._stateless) > MAX_STATELESS:
            self._stateless.popitem(last=False)

    def _as_question(self, error: Rejected, claim: Claim, exchange: str) -> Reply:
        """Error -32042 does not exist in the modern era: it becomes the questions that it names."""
        requests = url_requests(error.data) if error.jsonrpc == URL_ELICITATION_REQUIRED else {}
        if not requests:
            raise error
        return Reply.of(_question(requests, self.sealer.seal(claim, fresh=True, exchange=exchange)))


def _within(routed: Routed, exchange: str) -> Routed:
    """The next round of an exchange that began earlier."""
    return replace(routed, call=replace(routed.call, exchange=exchange)) if exchange else routed


def _claim(request: Request) -> Claim:
    return Claim(request.caller.owner, digest_of(request.method, request.params))


def _with_state(params: Params, state: State | None) -> Params:
    if state is None:
        return params
    rest = {key: value for key, value in params.items() if key != "requestState"}
    if state.fresh:
        rest.pop("inputResponses", None)
    elif state.upstream is not None:
        rest["requestState"] = state.upstream
    return rest


def _question(requests: Any, token: str) -> dict[str, Any]:
    return {"resultType": "input_required", "inputRequests": dict(requests), "requestState": token}
