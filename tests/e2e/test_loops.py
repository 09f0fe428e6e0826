"""A Manifold that leads back to itself: seen, told, and left out."""

import socket
from pathlib import Path

from tests.support.clients import tools_over_http
from tests.support.manifold import Home, serving
from tests.support.scripted import upstream


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_manifold_behind_itself_is_left_out_and_told(tmp_path: Path) -> None:
    port = free_port()
    here = {"url": f"http://127.0.0.1:{port}/mcp"}
    home = Home(tmp_path).write({"one": upstream("one", "a"), "here": here})
    async with serving(home, port=port) as manifold:
        await manifold.event("upstream.loop", upstream="here")
        assert await tools_over_http(manifold.url) == ["mcp_one_a"]


async def test_two_manifolds_in_front_of_each_other_list_everything_once(tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    one = Home(tmp_path / "first").write(
        {"one": upstream("one", "a"), "other": {"url": f"http://127.0.0.1:{second}/mcp"}}
    )
    two = Home(tmp_path / "second").write(
        {"two": upstream("two", "b"), "other": {"url": f"http://127.0.0.1:{first}/mcp"}}
    )
    async with serving(two, port=second) as behind:
        await behind.event("upstream.state", upstream="two", new="ready")
        async with serving(one, port=first) as front:
            await front.event("upstream.state", upstream="other", new="ready")
            await behind.event("upstream.loop", upstream="other")
            assert sorted(await tools_over_http(front.url)) == ["mcp_one_a", "mcp_two_b"]
            assert await tools_over_http(behind.url) == ["mcp_two_b"]
