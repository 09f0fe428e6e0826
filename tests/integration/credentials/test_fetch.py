"""How authorization servers are asked: at the addresses that were checked, and nowhere else."""

from ipaddress import ip_address
from typing import Any

import anyio
import pytest

from proxy.credentials.addresses import Trust
from proxy.credentials.fetch import Fetcher, trust_in
from proxy.errors import AuthRequired, ConnectFailed
from tests.support.link_http import Request, Response, serve


async def answer(_request: Request, response: Response) -> None:
    response.json({"ok": True})


async def test_a_name_is_looked_up_once_and_connected_to_where_it_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def rebinding(host: str, port: int, **_: Any) -> list[Any]:
        """A name server that says something else the second time."""
        asked.append(host)
        return [(2, 1, 6, "", ("127.0.0.1" if len(asked) == 1 else "10.0.0.1", port))]

    async with serve(answer) as site:
        port = site.url.rpartition(":")[2].removesuffix("/mcp")
        monkeypatch.setattr(anyio, "getaddrinfo", rebinding)
        trust = Trust(frozenset({f"http://rebinding.example:{port}"}), frozenset({ip_address("127.0.0.1")}))
        found = await Fetcher("up", trust).get(f"http://rebinding.example:{port}/x?y=1")
        assert (found.status, found.read(dict[str, bool])) == (200, {"ok": True})
        (request,) = site.requests
        assert (request.path, request.headers["host"]) == ("/x?y=1", f"rebinding.example:{port}")
    assert asked == ["rebinding.example"]


@pytest.mark.parametrize("second", ["10.0.0.1", "169.254.169.254", "::1"])
async def test_one_bad_address_among_several_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch, second: str) -> None:
    async def both(_host: str, port: int, **_: Any) -> list[Any]:
        return [(2, 1, 6, "", ("93.184.215.14", port)), (2, 1, 6, "", (second, port))]

    monkeypatch.setattr(anyio, "getaddrinfo", both)
    with pytest.raises(AuthRequired, match="not public"):
        await Fetcher("up", Trust()).get("https://sly.example/token")


async def test_an_address_that_does_not_answer_is_followed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(_host: str, port: int, **_: Any) -> list[Any]:
        return [(2, 1, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    async with serve(answer) as site:
        base = site.url.removesuffix("/mcp").replace("127.0.0.1", "two.example")
        monkeypatch.setattr(anyio, "getaddrinfo", both)
        trust = Trust(frozenset({base}), frozenset({ip_address("127.0.0.1")}))
        assert (await Fetcher("up", trust).get(base)).status == 200


async def test_a_host_that_is_unknown_adds_no_trust_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(host: str, _port: int, **_: Any) -> list[Any]:
        raise OSError(-2, "Name or service not known", host)

    monkeypatch.setattr(anyio, "getaddrinfo", unknown)
    trust = await trust_in(["https://gone.example/mcp"])
    assert trust.addresses == frozenset()
    with pytest.raises(ConnectFailed, match=r"gone\.example"):
        await Fetcher("up", trust).get("https://gone.example/x")


async def test_neither_the_environments_proxy_nor_its_password_file_has_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with serve(answer) as site:
        assert (await Fetcher("up", await trust_in([site.url])).get(site.url)).status == 200
