"""A server that speaks both eras is spoken to in the downstream's own, also over a pipe, where that matters."""

import sys
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp_types import ElicitResult

from tests.support.manifold import ROOT, Home, serving


async def answer(context: Any, params: Any) -> ElicitResult:
    del context, params
    return ElicitResult(action="accept", content={"value": "Ada"})


async def test_a_handshake_client_is_asked_by_a_server_on_a_pipe_that_speaks_both_eras(tmp_path: Path) -> None:
    command = {"command": sys.executable, "args": ["-m", "tests.support.asking_server"], "cwd": str(ROOT)}
    async with serving(Home(tmp_path).write({"asking": command})) as manifold:
        await manifold.event("upstream.state", upstream="asking", new="ready")
        with anyio.fail_after(30):
            async with Client(manifold.url, mode="legacy", elicitation_callback=answer) as client:
                result = await client.call_tool("mcp_asking_greet", {})
        assert "Hello, Ada!" in str(result.content)
