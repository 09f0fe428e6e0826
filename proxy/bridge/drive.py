"""Drive: a handshake downstream calls a modern upstream, which answers ``input_required``.

We do what a modern client would do: put each question to the downstream as the request that its era knows, and send the
call again with the answers and the upstream's ``requestState``, byte for byte (spec 2026-07-28, multi round-trip
requests).
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import anyio

from proxy.bridge.questions import ELICIT, check_permitted
from proxy.errors import INTERNAL_ERROR, ManifoldError, ProtocolFault, Rejected
from proxy.model import Backchannel, Params, Reply
from proxy.service.clock import Clock

MAX_ROUNDS: Final = 10
PAUSES: Final = (0.05, 0.1, 0.25)
"""Seconds before a round that brings no answers, only state: the upstream is polled, not hammered."""

Send = Callable[[Params], Awaitable[Reply]]
"""Sends the call with these params."""


async def drive(send: Send, params: Params, *, back: Backchannel, capabilities: Params, clock: Clock) -> Reply:
    """Send a call, and answer its upstream's questions, until it is complete.

    Raises:
        ManifoldError: as ``send`` does.
        Rejected: the downstream cannot or will not answer.
        ProtocolFault: the upstream asks without end.
    """
    links: dict[str, str] = {}
    idle = 0
    for _ in range(MAX_ROUNDS):
        reply = await send(params)
        if not may_ask(reply) or not asks(result := reply.result):
            await _close_links(links, back)
            return reply
        requests = result.get("inputRequests")
        answers = await _answers(requests, back, capabilities, links) if isinstance(requests, Mapping) else {}
        if not answers:
            await clock.sleep(PAUSES[min(idle, len(PAUSES) - 1)])
            idle += 1
        params = _retry(params, answers, result.get("requestState"))
    raise ProtocolFault(f"asked for input {MAX_ROUNDS} times without coming to an end")


def may_ask(reply: Reply) -> bool:
    """Whether a reply can be a question, without decoding it; the answer is nearly always no."""
    body = reply.body
    if body is None:
        return b"input_required" in reply.small
    return asks(body.head) if body.head is not None else b"input_required" in reply.raw


def asks(result: Any) -> bool:
    """Whether a result is a question."""
    return isinstance(result, Mapping) and result.get("resultType") == "input_required"


def _retry(params: Params, answers: Mapping[str, Any], state: Any) -> dict[str, Any]:
    retry = {key: value for key, value in params.items() if key not in ("inputResponses", "requestState")}
    if answers:
        retry["inputResponses"] = dict(answers)
    if state is not None:
        retry["requestState"] = state
    return retry


async def _answers(
    requests: Mapping[str, Any], back: Backchannel, capabilities: Params, links: dict[str, str]
) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    failed: list[ManifoldError] = []

    async def ask(key: str, method: str, params: Params | None) -> None:
        try:
            answers[key] = await back.ask(method, params)
        except ManifoldError as error:
            failed.append(error)

    # Before the task group, which would wrap a refusal into a group.
    questions = {key: _question(request, capabilities) for key, request in requests.items()}
    async with anyio.create_task_group() as tasks:
        for key, (method, params) in questions.items():
            if method == ELICIT and params is not None and params.get("mode") == "url":
                link = links.setdefault(key, secrets.token_urlsafe(12))
                tasks.start_soon(ask, key, method, {**params, "elicitationId": link})
            else:
                tasks.start_soon(ask, key, method, params)
    if failed:
        raise failed[0]
    return answers


def _question(request: Any, capabilities: Params) -> tuple[str, Params | None]:
    method = request.get("method") if isinstance(request, Mapping) else None
    if not isinstance(method, str):
        raise Rejected(INTERNAL_ERROR, "the server asked for input in a form that is no request")
    params = request.get("params")
    check_permitted(method, params, capabilities)
    return method, params if isinstance(params, Mapping) else None


async def _close_links(links: Mapping[str, str], back: Backchannel) -> None:
    """Tell the downstream that the pages it was sent to have done their work (2025-11-25, elicitation complete)."""
    for elicitation in links.values():
        await back.notify("notifications/elicitation/complete", {"elicitationId": elicitation})
