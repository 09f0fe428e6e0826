"""Pages that a person has to visit before a call can go on: error -32042, URL elicitation required (2025-11-25).

A call that is answered so was not executed. The program is asked about each page; when it has accepted them all, the
call is sent again.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from proxy.bridge.questions import ELICIT, permitted
from proxy.errors import URL_ELICITATION_REQUIRED, Rejected
from proxy.model import Backchannel, Params, Reply

MAX_ROUNDS: Final = 3
"""How often one call may send the program to pages."""

_NO_HANDLER: Final = (
    'To have it opened by the program, give Handlers(elicitation=..., elicitation_modes=("form", "url")).'
)


async def visited(
    send: Callable[[Params], Awaitable[Reply]], params: Params, *, back: Backchannel, capabilities: Params
) -> Reply:
    """Send a call, and let the program visit what its upstream wants visited first.

    Args:
        send: sends the call.
        params: its params.
        back: the way to the program.
        capabilities: what the program can answer.

    Raises:
        Rejected: the upstream's own error, with a hint that names the pages: the program cannot or will not visit
            them, or the upstream still wants them after that.
        ManifoldError: as ``send`` does.
    """
    rounds = 0
    while True:
        try:
            return await send(params)
        except Rejected as error:
            pages = _pages(error)
            if not pages:
                raise
            rounds += 1
            refused = await _refusal(pages, rounds, back=back, capabilities=capabilities)
            if refused:
                error.hint = f"A person has to visit {_places(pages)} first. {refused}"
                raise


async def _refusal(pages: list[Mapping[str, Any]], rounds: int, *, back: Backchannel, capabilities: Params) -> str:
    """Why the call cannot be sent again; empty if all pages were accepted."""
    if rounds > MAX_ROUNDS:
        return f"The program was sent there {MAX_ROUNDS} times, and the server still asks for it."
    for page in pages:
        if not permitted(ELICIT, page, capabilities):
            return _NO_HANDLER
        answer = await back.ask(ELICIT, page)
        action = answer.get("action")
        if action != "accept":
            return f"The program answered {str(action)!r}."
    return ""


def _pages(error: Rejected) -> list[Mapping[str, Any]]:
    if error.jsonrpc != URL_ELICITATION_REQUIRED or not isinstance(error.data, Mapping):
        return []
    found = error.data.get("elicitations")
    pages = found if isinstance(found, list) else []
    return [{**page, "mode": "url"} for page in pages if isinstance(page, Mapping) and isinstance(page.get("url"), str)]


def _places(pages: list[Mapping[str, Any]]) -> str:
    return " and ".join(str(page["url"]) for page in pages)
