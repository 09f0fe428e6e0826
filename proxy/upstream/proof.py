"""Requests that carry the current token of a credential source, and what a refusal of it means."""

import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from proxy.credentials.source import Source
from proxy.upstream.http_response import Response

Headers = Mapping[str, str] | None

_SCOPE: Final = re.compile(r'\bscope="([\x20-\x21\x23-\x7e]{1,200})"')


async def proven(
    source: Source, attempt: Callable[[Mapping[str, str]], Awaitable[Response]], headers: Headers
) -> Response:
    """Send a request with the token; once more with another one if the first was not taken (401: not executed).

    Raises:
        AuthRequired: somebody has to log in.
        Unavailable: no token can be had now.
    """
    token = await source.header()
    response = await attempt({**(headers or {}), "Authorization": token})
    if response.status != HTTPStatus.UNAUTHORIZED:
        source.accepted(token)
        return response
    try:
        again = await source.refused(token)
    except BaseException:
        response.close()
        raise
    if not again:
        return response
    response.close()
    token = await source.header()
    response = await attempt({**(headers or {}), "Authorization": token})
    if response.status != HTTPStatus.UNAUTHORIZED:
        source.accepted(token)
    return response


def remedy(source: Source, status: int, challenge: str) -> str:
    """What to do about a refusal."""
    wanted = _SCOPE.search(challenge)
    if status == HTTPStatus.FORBIDDEN and wanted is not None:
        return f"It wants the scopes {wanted[1]}: name them in auth.scopes. {source.hint}"
    return source.hint
