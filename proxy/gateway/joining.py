"""Joining a downstream's request to its upstream, whatever the eras: straight through, suspended, or driven."""

from dataclasses import dataclass, replace
from typing import Any

from proxy.bridge.drive import asks, drive
from proxy.bridge.suspend import Asked, Claim, Suspender, url_requests
from proxy.errors import URL_ELICITATION_REQUIRED, Rejected
from proxy.gateway.state import Sealer, State, digest_of
from proxy.model import Backchannel, Era, Params, Reply
from proxy.router import Request, Routed
from proxy.runtime import Runtime

_ROUND_KEYS = ("inputResponses", "requestState")


@dataclass(frozen=True, slots=True)
class Joined:
    """A raw result, and the era of the wire it came from."""

    result: Any
    era: Era


class Joint:
    """Sends routed requests and brings back results that the downstream's era can carry."""

    def __init__(self, runtime: Runtime, sealer: Sealer) -> None:
        self._runtime = runtime
        self._sealer = sealer
        self.suspender = Suspender(runtime.clock)

    async def send(self, request: Request, routed: Routed, back: Backchannel) -> Joined:
        """Send a request, in as many rounds as the eras need.

        Raises:
            ManifoldError: as the tower does.
        """
        if request.caller.era is Era.HANDSHAKE:
            return await self._handshake(request, routed, back)
        return await self._modern(request, routed, back)

    async def _handshake(self, request: Request, routed: Routed, back: Backchannel) -> Joined:
        async def send(params: Params) -> Reply:
            return await self._runtime.router.send(replace(routed, call=replace(routed.call, params=params)))

        reply = await drive(
            send,
            routed.call.params or {},
            back=back,
            capabilities=request.caller.capabilities,
            clock=self._runtime.clock,
        )
        return Joined(reply.result, reply.era)

    async def _modern(self, request: Request, routed: Routed, back: Backchannel) -> Joined:
        claim = Claim(request.caller.agent or "", digest_of(request.method, request.params))
        token = request.params.get("requestState")
        state = None if token is None else self._sealer.open(token, claim)
        try:
            if state is not None and state.parked is not None:
                answers = request.params.get("inputResponses")
                found: Reply | Asked = await self.suspender.resume(
                    state.parked, claim, answers if isinstance(answers, dict) else {}, back
                )
            else:
                found = await self._first_round(routed, claim, state, back)
        except Rejected as error:
            return self._as_question(error, claim)
        if isinstance(found, Asked):
            token = self._sealer.seal(claim, parked=found.handle)
            return Joined(_question(found.requests, token), Era.HANDSHAKE)
        return Joined(self._sealed(found.result, claim), found.era)

    async def _first_round(self, routed: Routed, claim: Claim, state: State | None, back: Backchannel) -> Reply | Asked:
        call = replace(routed.call, params=_with_state(routed.call.params or {}, state))
        era = self._runtime.registry[call.upstream].era
        if era is Era.MODERN or call.caller.told == "{}":
            return await self._runtime.router.send(replace(routed, call=call))

        async def send(parked: Backchannel) -> Reply:
            plain = {key: value for key, value in (call.params or {}).items() if key not in _ROUND_KEYS}
            return await self._runtime.router.send(replace(routed, call=replace(call, params=plain, back=parked)))

        return await self.suspender.start(claim, call.caller.capabilities, back, send)

    def _sealed(self, result: Any, claim: Claim) -> Any:
        if not asks(result) or result.get("requestState") is None:
            return result
        return {**result, "requestState": self._sealer.seal(claim, upstream=result["requestState"])}

    def _as_question(self, error: Rejected, claim: Claim) -> Joined:
        """Error -32042 does not exist in the modern era: it becomes the questions that it names."""
        requests = url_requests(error.data) if error.jsonrpc == URL_ELICITATION_REQUIRED else {}
        if not requests:
            raise error
        return Joined(_question(requests, self._sealer.seal(claim, fresh=True)), Era.HANDSHAKE)


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
