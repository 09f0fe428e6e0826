"""A streamable HTTP link to a scripted server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from proxy.config.model import UpstreamConfig
from proxy.upstream.http import HttpLink, open_http
from tests.support.link_http import Handler, Site, serve
from tests.support.link_peers import Heard


@asynccontextmanager
async def linked(
    handler: Handler, heard: Heard | None = None, *, user: str = "", **more: Any
) -> AsyncIterator[tuple[HttpLink, Site]]:
    with anyio.fail_after(30):
        async with serve(handler) as site:
            url = site.url.replace("://", f"://{user}")
            config = UpstreamConfig.model_validate({"url": url, **more})
            async with open_http("up", url, config, heard or Heard()) as link:
                yield link, site
