"""Smuggling and sizes: requests as no client would write them, and too much of everything."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from anyio.abc import SocketStream

from tests.security.rig import (
    ACCEPT,
    ANN,
    ANNS,
    EVE,
    HELLO,
    LANES,
    LIST,
    STORE,
    Party,
    answer_in,
    battlefield,
    browser,
    call,
    head_of,
    modern_request,
    post_of,
    raw,
    request,
    rss,
    spoken,
    statuses,
    still_serves,
)
from tests.support.manifold import PATIENCE, Home, Json, Manifold, Wire, stdio
from tests.support.scripted import upstream

MAX_BODY: Final = 256 * 1024
HELLO_BYTES: Final = json.dumps(HELLO).encode()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=LANES)
async def manifold(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Manifold]:
    server = {"max_body": MAX_BODY, "max_sessions": 200}
    async with battlefield(tmp_path_factory.mktemp("bytes"), express=LANES[request.param], server=server) as running:
        for token in (ANN, EVE):
            await still_serves(running, token)
        yield running
        await still_serves(running, ANN)


def lines_of(method: str, params: Json) -> tuple[Json, list[str]]:
    message, headers = modern_request(method, params)
    return message, [f"{name}: {value}" for name, value in headers.items()]


# -- one connection, two parties ---------------------------------------------------------------------------------------


async def test_pipelined_requests_of_two_parties_are_answered_in_order_to_each_as_itself(manifold: Manifold) -> None:
    """As a proxy in front would send them that keeps one connection for all."""
    message, lines = lines_of("tools/list", {})
    wanted = [ANN, EVE, ANN, "wrong-0123456789abcdef", EVE, ANN, "", EVE]
    data = b"".join(post_of("/mcp", message, *lines, token=token) for token in wanted)
    told = await spoken(manifold, data, enough=len(wanted))
    answers = told.split(b"HTTP/1.1 ")[1:]
    assert len(answers) == len(wanted)
    for token, answer in zip(wanted, answers, strict=True):
        if token == ANN:
            assert b"unlock" in answer
        elif token == EVE:
            assert b"scratch" in answer
            assert not any(word.encode() in answer for word in ANNS)
        else:
            assert answer.startswith(b"401 ")


async def test_a_slow_answer_is_not_overtaken_by_the_next_on_its_connection(manifold: Manifold) -> None:
    ann = await Party(manifold.url, ANN).open()
    slow = call("slow", "mcp_jobs_slow_compute", seconds=0.3)
    fast, lines = lines_of("tools/list", {})
    session = f"Mcp-Session-Id: {ann.session}"
    data = post_of("/mcp", slow, session, token=ANN) + post_of("/mcp", fast, *lines, token=EVE)
    told = await spoken(manifold, data, enough=2)
    first, second = told.split(b"HTTP/1.1 ")[1:]
    assert b'"slow"' in first
    assert b"scratch" not in first
    assert b"scratch" in second


async def test_a_credential_does_not_stay_on_the_connection(manifold: Manifold) -> None:
    message, lines = lines_of("tools/list", {})
    async with raw(manifold) as stream:
        for token, status in ((ANN, 200), ("", 401), (EVE, 200), ("", 401)):
            await stream.send(post_of("/mcp", message, *lines, token=token))
            told = b""
            with anyio.fail_after(PATIENCE):
                while b"\r\n\r\n" not in told or told.endswith(b"\r\n\r\n"):
                    told += await stream.receive()
            assert statuses(told) == [status]


# -- smuggling ---------------------------------------------------------------------------------------------------------

INNER: Final = head_of("GET", "/status.json", f"Authorization: Bearer {STORE}")


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 4", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 4"],
        ["Transfer-Encoding: identity, chunked", "Content-Length: 4"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding:\x0bchunked"],
        ["Transfer-Encoding: chunked\x00"],
        ["Content-Length: 4", "Content-Length: 400"],
        ["Content-Length: 4, 400"],
        ["Content-Length: +4"],
        ["Content-Length: -1"],
        ["Content-Length: 0x4"],
        ["Content-Length: 4 4"],
        ["Content-Length: 99999999999999999999999"],
        ["Content-Length: \u0664"],
        [" Content-Length: 4"],
        ["Content-Length\x00: 4"],
        ["X: a\rContent-Length: 4"],
        ["X: a\r\n\tContent-Length: 4"],
        ["X: a\x00b"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
    ],
    ids=lambda lines: repr(lines)[:50],
)
async def test_a_body_of_doubtful_length_hides_no_second_request(manifold: Manifold, lines: list[str]) -> None:
    """The second request is in the body, if lengths are read one way; what comes before it must not carry it in."""
    head = "\r\n".join(["POST /mcp HTTP/1.1", "Host: 127.0.0.1", f"Accept: {ACCEPT}", *lines, "", ""])
    told = b""
    async with raw(manifold) as stream:
        await stream.send(head.encode("utf-8") + b"0\r\n\r\n" + INNER)
        with anyio.move_on_after(0.3):
            try:
                while True:
                    told += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
    assert b'"upstreams"' not in told or statuses(told)[0] in {400, 401}, told
    assert statuses(told)[:1] in ([], [400], [401], [413]), told


@pytest.mark.parametrize("name", ["Authorization", "Mcp-Name", "Mcp-Method", "Mcp-Session-Id", "Origin", "X-Any"])
@pytest.mark.parametrize("inner", ["\r\n", "\n", "\r", "\x00", "\r\n\r\n"])
async def test_a_line_end_in_a_value_adds_no_header(manifold: Manifold, name: str, inner: str) -> None:
    """Whatever the parser makes of it, nothing is served with another credential or name than one could see."""
    message, lines = lines_of("tools/call", {"name": "unlock", "arguments": {}})
    told = await spoken(manifold, post_of("/mcp", message, f"{name}: x{inner}Authorization: Bearer x", *lines))
    assert not statuses(told) or statuses(told)[0] in {400, 401, 403}
    assert b"structuredContent" not in told


async def test_http_1_0_and_connection_close_get_the_same_answers(manifold: Manifold) -> None:
    message, lines = lines_of("tools/list", {})
    for version in ("1.0", "1.1"):
        one = post_of("/mcp", message, *lines, "Connection: close", token=EVE)
        told = await spoken(manifold, one.replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
        assert statuses(told) == [200]
        assert b"scratch" in told
        nobody = await spoken(manifold, post_of("/mcp", message, *lines, "Connection: close"))
        assert statuses(nobody) == [401]
    for version in ("0.9", "2.0", "1.2", "9.9", "x"):
        told = await spoken(manifold, b"GET /status.json HTTP/" + version.encode() + b"\r\nHost: 127.0.0.1\r\n\r\n")
        assert statuses(told)[:1] in ([], [400], [401], [505])


@pytest.mark.parametrize("express", ["", "Mcp-Param-x: y"])
async def test_trailers_of_a_chunked_body_are_no_headers(manifold: Manifold, express: str) -> None:
    message, lines = lines_of("tools/list", {})
    body = json.dumps(message).encode()
    more = [express] if express else []
    own = ["Transfer-Encoding: chunked", "Content-Type: application/json", f"Accept: {ACCEPT}", *lines, *more]
    for shown, trailer in (("", f"Authorization: Bearer {ANN}"), (EVE, f"Authorization: Bearer {ANN}")):
        bearer = [f"Authorization: Bearer {shown}"] if shown else []
        data = head_of("POST", "/mcp", *own, *bearer) + b"%x\r\n%b\r\n0\r\n" % (len(body), body)
        told = await spoken(manifold, data + trailer.encode() + b"\r\nMcp-Session-Id: x\r\n\r\n")
        assert statuses(told)[0] == (200 if shown else 401)
        assert not any(word.encode() in told for word in ANNS)


async def poured(stream: SocketStream, piece: bytes) -> None:
    """Send a piece over and over, and then listen, until the connection is cut."""
    for _ in range(4000):
        await stream.send(piece)
    while True:
        await stream.receive()


@pytest.mark.parametrize(
    "piece",
    [b"x: y\r\n" * 1000, b"x: " + b"a" * 8000, b"a" * 8000, b"\r\n" * 4000],
    ids=["many trailers", "a long trailer", "a long name", "blank lines"],
)
async def test_trailers_without_an_end_are_cut(manifold: Manifold, piece: bytes) -> None:
    before = rss(manifold.pid)
    async with raw(manifold) as stream:
        head = head_of("POST", "/mcp", "Transfer-Encoding: chunked", f"Authorization: Bearer {EVE}")
        await stream.send(head + b"2\r\n{}\r\n0\r\n" + (b"x: " if piece.startswith(b"a") else b""))
        with anyio.fail_after(PATIENCE), pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
            await poured(stream, piece)
    assert rss(manifold.pid) - before < 16 << 20


async def test_an_upgrade_is_not_done(manifold: Manifold) -> None:
    for line in ("Upgrade: websocket", "Upgrade: h2c", "Upgrade: TLS/1.2"):
        lines = (line, "Connection: Upgrade", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
        told = await spoken(manifold, head_of("GET", "/mcp", *lines))
        assert statuses(told)[0] in {400, 401}
    told = await spoken(manifold, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert statuses(told)[:1] in ([], [400])


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PUT", "PATCH", "PROPFIND", "HEAD", "post", "Post", "XYZ"])
async def test_another_method_reaches_nothing(manifold: Manifold, method: str) -> None:
    # HEAD on the legacy stream is a GET to its framework: it opens a stream, on which nothing is said.
    for path in ("/mcp", "/agents/ann/mcp", *(["/sse"] if method != "HEAD" else [])):
        # Without the close the answer to HEAD has no end but that of the connection.
        asked = post_of(path, LIST, "Connection: close", token=EVE).replace(b"POST ", f"{method} ".encode(), 1)
        told = await spoken(manifold, asked)
        assert statuses(told)[:1] in ([], [400], [401], [404], [405]), told
        assert EVE.encode() not in told


async def test_a_type_or_encoding_that_is_not_json_is_not_read(manifold: Manifold) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "*/*"):
        message, headers = modern_request("tools/call", {"name": "echo", "arguments": {}})
        got = await Party(manifold.url, EVE).post(message, **{**headers, "Content-Type": kind})
        assert got.status_code >= 400, kind
        assert "structuredContent" not in got.text
    message, headers = modern_request("tools/call", {"name": "echo", "arguments": {}})
    packed = await Party(manifold.url, EVE).post(message, **{**headers, "Content-Encoding": "gzip"})
    assert packed.status_code < 500


# -- too much ----------------------------------------------------------------------------------------------------------


async def sent(manifold: Manifold, body: bytes, token: str = EVE, **headers: str) -> tuple[int, str]:
    party = Party(manifold.url, token)
    async with browser() as client:
        got = await client.post(party.url, content=body, headers=party.headers(**headers))
        return got.status_code, got.text


async def test_a_body_over_the_limit_is_refused_however_it_is_sent(manifold: Manifold) -> None:
    message, headers = modern_request("tools/call", {"name": "echo", "arguments": {"x": "a" * (2 * MAX_BODY)}})
    body = json.dumps(message).encode()
    assert (await sent(manifold, body, **headers))[0] == 413
    lines = [f"{name}: {value}" for name, value in headers.items()]
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(body[at : at + 4096]), body[at : at + 4096]) for at in range(0, len(body), 4096)
    )
    own = ["Transfer-Encoding: chunked", "Content-Type: application/json", f"Accept: {ACCEPT}", *lines]
    told = await spoken(manifold, head_of("POST", "/mcp", *own, f"Authorization: Bearer {EVE}") + chunks + b"0\r\n\r\n")
    assert statuses(told)[:1] in ([], [413])
    # What is announced only is refused before anything of it comes.
    told = await spoken(
        manifold, head_of("POST", "/mcp", f"Content-Length: {1 << 40}", *own[1:], f"Authorization: Bearer {EVE}")
    )
    assert statuses(told) == [413]
    for path in ("/messages/?session_id=" + "0" * 32, "/agents/eve/mcp"):
        told = await spoken(
            manifold, head_of("POST", path, f"Content-Length: {1 << 40}", *own[1:], f"Authorization: Bearer {EVE}")
        )
        assert statuses(told) == [413]


async def test_an_unknown_sender_cannot_make_a_body_be_kept(manifold: Manifold) -> None:
    """Without a credential the answer comes before the body."""
    own = ["Content-Type: application/json", f"Accept: {ACCEPT}", f"Content-Length: {MAX_BODY - 1}"]
    told = await spoken(manifold, head_of("POST", "/mcp", *own))
    assert statuses(told) == [401]


@pytest.mark.parametrize(
    "arguments",
    [
        {f"a{number}": number for number in range(10_000)},
        {"a" * 100_000: 1},
        {"x": ["y"] * 50_000},
        {"x": 10**300},
        {"\ud800": 1},
        {"x": "\u0000" * 10_000},
    ],
    ids=["10 000 arguments", "a long name", "a long list", "a large number", "half a character", "zeros"],
)
async def test_strange_arguments_are_served_or_refused_in_time(manifold: Manifold, arguments: Json) -> None:
    message, headers = modern_request("tools/call", {"name": "echo", "arguments": arguments})
    with anyio.fail_after(PATIENCE):
        status, text = await sent(manifold, json.dumps(message).encode(), **headers)
        assert status < 500
        assert "Traceback" not in text
        session = await Party(manifold.url, EVE).open()
        assert (await session.post(call(2, x=1))).status_code == 200


@pytest.mark.parametrize("number", [10**400, "x" * 200_000, 1.5, None, True, [1], {"a": 1}, -1, 2**63, ""], ids=str)
async def test_a_strange_request_id_breaks_nothing(manifold: Manifold, number: Any) -> None:
    session = await Party(manifold.url, EVE).open()
    message, headers = modern_request("tools/list", {}, number=number)
    with anyio.fail_after(PATIENCE):
        assert (await sent(manifold, json.dumps(message).encode(), **headers))[0] < 500
        await session.post({**LIST, "id": number})
        assert (await session.post(LIST)).status_code == 200


async def test_a_batch_over_the_limit_is_refused_and_one_within_it_is_served(manifold: Manifold) -> None:
    old: Any = {**Wire.HELLO, "protocolVersion": "2025-03-26"}
    eve = Party(manifold.url, EVE)
    eve.session = (await eve.post(request("initialize", **old))).headers["mcp-session-id"]
    await eve.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
    await eve.post(LIST)  # by its answer the session is known to be of the revision with batches
    ping = [{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in range(100)]
    assert (await eve.post(ping)).text.count('"result"') == 100
    batches: tuple[list[Any], ...] = (ping * 2, ping * 30, [ping], [[[]]], [1, 2], [{}], [None], [])
    for batch in batches:
        got = await eve.post(batch)
        assert got.status_code < 500
        assert "Traceback" not in got.text
    assert "error" in answer_in((await eve.post(ping * 2)).text)


async def test_sessions_beyond_the_limit_cost_a_bounded_number_of_them(manifold: Manifold) -> None:
    before = rss(manifold.pid)
    async with browser() as client:
        party = Party(manifold.url, EVE)
        for _ in range(300):
            got = await client.post(party.url, json=HELLO, headers=party.headers())
            assert got.status_code in {200, 503}
    assert rss(manifold.pid) - before < 64 << 20


async def test_connections_that_say_nothing_keep_nobody_out(manifold: Manifold) -> None:
    async with anyio.create_task_group() as tasks:
        held = []
        for number in range(200):
            stream = await anyio.connect_tcp("127.0.0.1", int(manifold.base.rpartition(":")[2]))
            held.append(stream)
            await stream.send(b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n"[: number % 38 + 1])
        await still_serves(manifold, ANN)
        for stream in held:
            tasks.start_soon(stream.aclose)


async def test_a_sender_that_goes_away_in_the_middle_is_no_exception(manifold: Manifold) -> None:
    """Otherwise everybody with a credential could fill the log with stack traces."""
    message, lines = lines_of("tools/list", {})
    for path in ("/mcp", "/agents/eve/mcp", "/messages/?session_id=" + "0" * 32):
        whole = post_of(path, message, *lines, token=EVE)
        for cut in (1, 20, 60):
            async with raw(manifold) as stream:
                await stream.send(whole[:-cut])
                with anyio.move_on_after(0.1):
                    await stream.receive()
    await still_serves(manifold, ANN)
    assert "Exception in ASGI application" not in manifold.said


NO_TEXT: Final = (
    b'{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"a": "\xbe"}}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"a": "\xff"}}}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "\xbe"}',
    b'{"jsonrpc": "2.0", "id": "\xbe", "method": "ping"}',
    b'{"\xbe": "initialize", "jsonrpc": "2.0", "id": 1, "method": "initialize"}',
    b'{"jsonrpc": "2.0", "id": 1, "result": {"a": "\xc0\x80"}}',
    b'[{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"a": "\xed\xa0\x80"}}]',
    b'"\xbe initialize"',
)


@pytest.mark.parametrize("body", NO_TEXT)
async def test_a_message_that_is_no_text_is_refused_at_the_http_door(manifold: Manifold, body: bytes) -> None:
    session = (await Party(manifold.url, EVE).open()).session
    _, headers = modern_request("tools/call", {"name": "echo"})
    for more in ({}, {"Mcp-Session-Id": session}, headers):
        status, text = await sent(manifold, body, **more)
        assert status in {400, 202}, text
    assert "Exception in ASGI application" not in manifold.said


async def test_a_message_that_is_no_text_does_not_end_a_pipe(tmp_path: Path) -> None:
    async with stdio(Home(tmp_path).write({"files": upstream("files", "echo")})) as wire:
        stdin = wire.manifold.process.stdin
        assert stdin is not None
        for first in (False, True):
            await stdin.send(b"".join(one + b"\n" for one in NO_TEXT))
            assert await wire.request("ping") == {} if first else await wire.open()
    assert "Traceback" not in wire.manifold.said
