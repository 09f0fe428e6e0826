"""The local door to which a browser comes back: nothing but the answer to our own question counts."""

import socket

import anyio
import pytest

from proxy.credentials.callback import door
from tests.support.manifold import PATIENCE

PAGE = "https://as.example/authorize?client_id=c&state=ours"


async def sent(uri: str, data: bytes) -> bytes:
    """What comes back for raw bytes."""
    host, _, rest = uri.removeprefix("http://").partition(":")
    async with await anyio.connect_tcp(host, int(rest.partition("/")[0])) as stream:
        await stream.send(data)
        try:
            return await stream.receive()
        except anyio.EndOfStream:
            return b""


async def test_what_is_no_answer_of_ours_is_passed_over() -> None:
    with anyio.fail_after(PATIENCE):
        async with door() as callback:
            assert b"404" in await sent(callback.uri, b"GET /callback?state=ours&code=early HTTP/1.1\r\n\r\n")
            callback.expect(PAGE)
            for line in (
                b"GET /callback?state=theirs&code=x HTTP/1.1",
                b"GET /callback?code=x HTTP/1.1",
                b"GET /callback?state=ours&state=theirs&code=x HTTP/1.1",
                b"GET /elsewhere?state=ours&code=x HTTP/1.1",
                b"POST /callback?state=ours&code=x HTTP/1.1",
                b"\xff\xfe\x00 nonsense",
                b"GET",
            ):
                assert b"404" in await sent(callback.uri, line + b"\r\n\r\n")
            assert b"404" in await sent(callback.uri, b"x" * 20_000)
            page = await sent(callback.uri, b"GET /callback?state=ours&code=right HTTP/1.1\r\n\r\n")
            assert b"200 OK" in page
            assert b"right" not in page
            assert await callback.url() == f"{callback.uri}?state=ours&code=right"


async def test_a_port_that_is_taken_is_given_up_unless_it_has_to_be_this_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port: int = taken.getsockname()[1]
        async with door(port) as callback:
            assert f":{port}/" not in callback.uri
        with pytest.raises(OSError, match="in use"):
            async with door(port, strict=True):
                raise AssertionError
