"""Signed tokens that eve made, changed or found; and how tokens are compared."""

import ast
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from tests.security.rig import ANN, ANNS, HELLO, LIST, Party, battlefield, request
from tests.support.issuer import Issuer, issuing
from tests.support.manifold import PATIENCE, ROOT, Json, Manifold
from tests.support.scripted import upstream

AUDIENCE: Final = "https://manifold.test/mcp"
LONG: Final = 4_000_000_000


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as found:
        yield found


@pytest.fixture(scope="module")
async def manifold(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> AsyncIterator[Manifold]:
    signed = {"jwks_url": f"{issuer.url}/jwks", "issuer": issuer.url, "audience": AUDIENCE, "agents_claim": "agents"}
    upstreams = {"files": upstream("files", "echo", "wipe"), "vault": upstream("vault", "unlock")}
    agents = {"ann": {"servers": ["*"], "tokens": [ANN]}, "eve": {"servers": ["files"], "tools": {"deny": ["wipe"]}}}
    sections: Json = {"mcpServers": upstreams, "agents": agents, "auth": {"jwt": {**signed, "keys_interval": 0}}}
    async with battlefield(tmp_path_factory.mktemp("tokens"), **sections) as running:
        yield running


def encoded(part: Any) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def signed(header: Any, claims: Any, key: RSAKey) -> str:
    """A token whose parts may be anything, with a signature that is right."""
    text = f"{encoded(header)}.{encoded(claims)}"
    signature = key.private_key.sign(text.encode(), padding.PKCS1v15(), SHA256())  # type: ignore[union-attr]
    return f"{text}.{encoded(signature)}"


def claims_of(issuer: Issuer, **more: Any) -> Json:
    now = int(time.time())
    own = {"iss": issuer.url, "sub": "eve", "aud": AUDIENCE, "agents": "eve", "iat": now, "exp": now + 600}
    return {name: one for name, one in {**own, **more}.items() if one is not None}


def header_of(issuer: Issuer, **more: Any) -> Json:
    return {name: one for name, one in {"alg": "RS256", "kid": issuer._keys[-1].kid, **more}.items() if one is not None}


async def refused(manifold: Manifold, token: str, what: str) -> None:
    for url in (manifold.url, manifold.agent("ann"), manifold.agent("eve")):
        got = await Party(url, token).post(HELLO)
        assert got.status_code in {400, 401, 403}, (what, got.text)
        assert "Traceback" not in got.text


async def test_the_tokens_of_the_issuer_are_good_here(manifold: Manifold, issuer: Issuer) -> None:
    """What the attacks below change is otherwise right."""
    token = signed(header_of(issuer), claims_of(issuer), issuer._keys[-1])
    listed = await (await Party(manifold.url, token).open()).ask("tools/list")
    assert {tool["name"] for tool in listed["result"]["tools"]} == {"echo"}


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "RS256 ", "rs256", "HS256", "RS999"])
async def test_a_token_without_a_signature_is_none(manifold: Manifold, issuer: Issuer, algorithm: str) -> None:
    bare = f"{encoded(header_of(issuer, alg=algorithm))}.{encoded(claims_of(issuer))}"
    own = signed(header_of(issuer), claims_of(issuer), issuer._keys[-1])
    for token in (f"{bare}.", bare, f"{bare}.AAAA", f"{bare}.{own.rpartition('.')[2]}"):
        await refused(manifold, token, token)


async def test_the_public_key_is_no_shared_secret(manifold: Manifold, issuer: Issuer) -> None:
    key = issuer._keys[-1]
    public = key.as_pem(private=False)
    numbers = json.dumps(key.as_dict(private=False)).encode()
    for secret in (public, public.strip(), public + b"\n", numbers, numbers.replace(b" ", b""), b"\0" * 32):
        for algorithm in ("HS256", "HS384", "HS512"):
            token = jwt.encode(
                {"alg": algorithm, "kid": key.kid},
                claims_of(issuer),
                OctKey.import_key(
                    base64.urlsafe_b64encode(secret).decode() if secret.startswith(b"\0") else secret.hex()
                ),
                algorithms=[algorithm],
            )
            await refused(manifold, token, algorithm)
            await refused(manifold, _by_hand(algorithm, key.kid, claims_of(issuer), secret), algorithm)


def _by_hand(algorithm: str, kid: Any, claims: Json, secret: bytes) -> str:
    """HMAC with any bytes at all as its key, which libraries refuse to do with a PEM."""
    import hmac

    text = f"{encoded({'alg': algorithm, 'kid': kid})}.{encoded(claims)}"
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), f'sha{algorithm[2:]}'))}"


async def test_a_key_that_the_token_brings_along_or_names_elsewhere_does_not_count(
    manifold: Manifold, issuer: Issuer
) -> None:
    asked: list[str] = []
    async with issuing() as evil:
        own = evil._keys[-1]
        public = own.as_dict(private=False)
        certificate = base64.b64encode(own.as_der(private=False)).decode()
        for more in (
            {"jwk": public},
            {"jku": f"{evil.url}/jwks"},
            {"x5u": f"{evil.url}/jwks"},
            {"x5c": [certificate]},
            {"kid": own.kid, "jku": f"{evil.url}/jwks"},
            {"kid": own.kid, "jwk": public},
            {"kid": f"{evil.url}/jwks"},
            {"crit": ["jwk"], "jwk": public},
        ):
            await refused(manifold, signed(header_of(issuer, **more), claims_of(issuer), own), str(more))
        assert evil.fetched == len(asked)


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/dev/null",
        "' OR '1'='1",
        "$(id)",
        "_default",
        "__class__",
        "\u0000",
        "a" * 10_000,
        ["a"],
        {"a": 1},
        7,
        True,
        "",
        "http://169.254.169.254/latest/meta-data",
    ],
    ids=lambda kid: str(kid)[:20],
)
async def test_a_key_id_is_a_name_and_nothing_else(manifold: Manifold, issuer: Issuer, kid: Any) -> None:
    async with issuing() as evil:
        await refused(manifold, signed(header_of(issuer, kid=kid), claims_of(issuer), evil._keys[-1]), str(kid))
    empty = _by_hand("HS256", kid, claims_of(issuer), b"")
    await refused(manifold, empty, str(kid))


@pytest.mark.parametrize(
    "more",
    [
        {"aud": None},
        {"aud": "https://elsewhere.test"},
        {"aud": ["https://elsewhere.test"]},
        {"aud": AUDIENCE + "/"},
        {"aud": AUDIENCE.upper()},
        {"aud": [[AUDIENCE]]},
        {"aud": {AUDIENCE: 1}},
        {"aud": f"{AUDIENCE} https://elsewhere.test"},
        {"aud": []},
        {"aud": "*"},
        {"iss": None},
        {"iss": "https://elsewhere.test"},
        {"iss": ""},
        {"iss": ["x"]},
        {"exp": None},
        {"exp": 1},
        {"exp": str(LONG)},
        {"exp": True},
        {"exp": []},
        {"exp": -1},
        {"nbf": LONG},
        {"nbf": str(LONG)},
        {"nbf": [0]},
        {"sub": None},
        {"sub": ""},
        {"sub": ["ann"]},
        {"sub": {"a": 1}},
        {"sub": 7},
        {"agents": None},
        {"agents": []},
        {"agents": ""},
        {"agents": "nobody"},
        {"agents": ["eve", "nobody"]},
        {"agents": "ann+eve"},
        {"agents": "eve ann"},
        {"agents": "ANN"},
        {"agents": "*"},
        {"agents": "eve\u0000"},
        {"agents": [["eve"]]},
        {"agents": {"eve": True}},
        {"agents": ["eve", 7]},
        {"agents": True},
        {"agents": "../ann"},
    ],
    ids=lambda more: str(more)[:40],
)
async def test_a_claim_that_is_not_right_gets_nobody_in(manifold: Manifold, issuer: Issuer, more: Json) -> None:
    claims = claims_of(issuer, **more)
    if more.get("iss") == ["x"]:
        claims["iss"] = [issuer.url]
    await refused(manifold, signed(header_of(issuer), claims, issuer._keys[-1]), str(more))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400])
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
async def test_a_time_that_is_no_time_crashes_nothing(
    manifold: Manifold, issuer: Issuer, claim: str, number: str
) -> None:
    claims = json.dumps(claims_of(issuer, **{claim: "HERE"})).replace('"HERE"', number).encode()
    token = signed(header_of(issuer), claims, issuer._keys[-1])
    got = await Party(manifold.url, token).post(HELLO)
    assert got.status_code in ({200, 400, 401, 403} if claim == "iat" else {400, 401, 403}), got.text


async def test_a_claim_that_is_said_twice_counts_as_its_verifier_reads_it(manifold: Manifold, issuer: Issuer) -> None:
    """``_said`` and the verifier read the same text with two parsers: no audience or agent comes from the other."""
    key = issuer._keys[-1]
    good = json.dumps(claims_of(issuer))[1:-1]
    for first, last in (('"iss": "https://x.test"', good), (good, '"iss": "https://x.test"')):
        await _never_ann(manifold, signed(header_of(issuer), f"{{{first}, {last}}}".encode(), key))
    twice = f'{{{good}, "agents": "nobody"}}'.encode()
    await refused(manifold, signed(header_of(issuer), twice, key), "agents")


async def _never_ann(manifold: Manifold, token: str) -> None:
    got = await Party(manifold.url, token).modern_post("tools/list", {})
    assert got.status_code == 401 or not any(word in got.text for word in ANNS)


@pytest.mark.parametrize(
    "token",
    [
        "..",
        "...",
        "a.b.c",
        "a.b.c.d.e",
        "e30.e30.",
        "e30.e30.e30",
        "." * 5000,
        "%2e%2e.x.y",
        encoded(b"[" * 8000) + ".e30.x",
        "e30." + encoded(b"[" * 8000) + ".x",
        encoded({"alg": "RS256"}) + "." + encoded(b'{"iss":' + b"[" * 8000) + ".x",
        encoded(b"\xff\xfe") + ".e30.x",
        encoded({"alg": "RS256", "zip": "DEF"}) + "." + encoded({"iss": "x"}) + ".x",
        "=" * 100 + ".e30.e30",
    ],
    ids=lambda token: token[:16],
)
async def test_a_token_that_is_no_token_is_refused(manifold: Manifold, token: str) -> None:
    await refused(manifold, token, token[:50])


async def test_a_token_of_another_issuer_in_the_name_of_ours_is_refused(manifold: Manifold, issuer: Issuer) -> None:
    async with issuing() as evil:
        await refused(manifold, signed(header_of(evil), claims_of(issuer, agents="ann"), evil._keys[-1]), "evil key")
        await refused(manifold, signed(header_of(evil), claims_of(evil, agents="ann"), evil._keys[-1]), "evil issuer")


async def test_a_changed_token_is_refused(manifold: Manifold, issuer: Issuer) -> None:
    header, claims, signature = signed(header_of(issuer), claims_of(issuer), issuer._keys[-1]).split(".")
    other = encoded(claims_of(issuer, agents="ann"))
    for token in (
        f"{header}.{other}.{signature}",
        f"{header}.{claims}.{signature[:-8]}",
        f"{header}.{claims}.",
        f"{header}.{claims}.{signature}A",
    ):
        await refused(manifold, token, "changed")


async def test_a_session_of_one_user_is_nothing_to_another_of_the_same_agent(
    manifold: Manifold, issuer: Issuer
) -> None:
    key = issuer._keys[-1]
    make: Callable[..., Json] = partial(claims_of, issuer)
    mine = await Party(manifold.url, signed(header_of(issuer), make(sub="mallory"), key)).open()
    for sub in ("eve", "mallor", "mallory ", "MALLORY", "client:mallory", f"{issuer.url}#mallory", "mallory#"):
        other = signed(header_of(issuer), make(sub=sub), key)
        assert (await mine.stolen_by(other).post(LIST)).status_code == 404, sub
    assert (
        await mine.stolen_by(signed(header_of(issuer), make(sub="mallory", jti="2"), key)).post(LIST)
    ).status_code == 200


async def test_a_client_is_no_user_of_the_same_name(manifold: Manifold, issuer: Issuer) -> None:
    """A token without ``sub`` is its client's own; a user may be called what he likes."""
    key = issuer._keys[-1]
    robot = signed(header_of(issuer), claims_of(issuer, sub=None, client_id="robot"), key)
    mine = await Party(manifold.url, robot).open()
    for sub in ("client:robot", "robot", "client%3Arobot"):
        user = signed(header_of(issuer), claims_of(issuer, sub=sub), key)
        assert (await mine.stolen_by(user).post(LIST)).status_code == 404, sub


class Flood:
    """An issuer whose key set never ends, or is not one."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.sent = 0

    async def jwks(self, _request: Request) -> Response:
        if self.kind == "endless":
            return StreamingResponse(self._chunks(), media_type="application/json")
        if self.kind == "redirect":
            return Response(status_code=302, headers={"Location": "http://169.254.169.254/latest/meta-data"})
        bodies: Json = {"list": [], "text": "x", "keys": {"keys": 7}, "inside": {"keys": [[], 7, None, {"kty": []}]}}
        return JSONResponse(bodies[self.kind])

    async def _chunks(self) -> AsyncIterator[bytes]:
        yield b'{"keys": ['
        while True:
            self.sent += 1 << 16
            yield b" " * (1 << 16)
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("kind", ["endless", "redirect", "list", "text", "keys", "inside"])
async def test_a_key_set_that_is_none_lets_nobody_in_and_holds_up_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    flood = Flood(kind)

    async def jwks(_issuer: Issuer, asked: Request) -> Response:
        return await flood.jwks(asked)

    monkeypatch.setattr(Issuer, "jwks", jwks)
    async with issuing() as issuer:
        section = {"issuer": issuer.url, "jwks_url": f"{issuer.url}/jwks", "audience": AUDIENCE, "keys_interval": 0}
        sections: Json = {"mcpServers": {"files": upstream("files", "echo")}, "agents": {"ann": {"tokens": [ANN]}}}
        async with battlefield(tmp_path, **sections, auth={"jwt": section}) as manifold:
            token = signed(header_of(issuer), claims_of(issuer), issuer._keys[-1])
            with anyio.fail_after(PATIENCE):
                for _ in range(2):
                    assert (await Party(manifold.url, token).post(HELLO)).status_code == 401
                assert (await Party(manifold.url, ANN).post(HELLO)).status_code == 200
    assert flood.sent < 64 << 20


# -- comparisons -------------------------------------------------------------------------------------------------------

SECRET_NAMES: Final = frozenset({"token", "secret", "header", "digest", "sha256", "password", "credential"})


def _spells(node: ast.AST) -> set[str]:
    """The names in an expression, apart from those that are only measured, cut or hashed."""
    if isinstance(node, ast.Call):
        return set()  # its result is compared, not what went into it; ``hmac.compare_digest`` is no comparison
    if isinstance(node, ast.Subscript):
        return set() if isinstance(node.slice, ast.Slice) else _spells(node.value)
    if isinstance(node, ast.Attribute):
        return {node.attr}
    if isinstance(node, ast.Name):
        return {node.id}
    return set().union(*map(_spells, ast.iter_child_nodes(node)), set())


@pytest.mark.parametrize("module", ["identity", "tokens", "issuers", "guard", "ownership", "forwarding"])
def test_no_secret_is_compared_but_by_its_digest_or_in_constant_time(module: str) -> None:
    """How this test knows: it reads the code of what handles credentials.

    There, no name that holds a credential may be an operand of ``==``, ``!=``, ``in`` or ``not in``, whose time tells
    how much of it is right. What is looked up in a dictionary is a SHA-256 digest of the whole (``_held``): whoever
    does not know the token cannot steer its digest. What is compared with a stored digest goes through
    ``hmac.compare_digest``, also where there is no record at all. ``None`` checks and ``is`` are free.
    """
    tree = ast.parse((ROOT / "proxy" / "gateway" / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            risky = [one for one in node.ops if isinstance(one, ast.Eq | ast.NotEq | ast.In | ast.NotIn)]
            if isinstance(node.left, ast.Constant) and isinstance(node.ops[0], ast.In | ast.NotIn):
                continue  # looks for a character of the syntax
            named = set().union(*map(_spells, (node.left, *node.comparators)))
            assert not (risky and named & SECRET_NAMES), f"{module}.py:{node.lineno}: {ast.unparse(node)}"


def test_a_stored_digest_is_compared_in_constant_time_whether_there_is_one_or_not() -> None:
    tree = ast.parse((ROOT / "proxy" / "gateway" / "tokens.py").read_text())
    find = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "find")
    calls = [ast.unparse(node.func) for node in ast.walk(find) if isinstance(node, ast.Call)]
    assert "hmac.compare_digest" in calls
    assert "hashlib.sha256" in calls
    # It comes before the first way out.
    first = min(node.lineno for node in ast.walk(find) if isinstance(node, ast.Return))
    made = (node for node in ast.walk(find) if isinstance(node, ast.Call))
    compared = next(node.lineno for node in made if ast.unparse(node.func) == "hmac.compare_digest")
    assert compared < first


async def test_the_refusal_of_a_token_says_nothing_about_how_wrong_it_is(manifold: Manifold) -> None:
    told = set()
    for token in (ANN[:-1], ANN + "x", "z" * len(ANN), "mcpm_0000000000_x", "a.b.c", ANN.swapcase()):
        got = await Party(manifold.url, token).post(request("tools/list"))
        told.add((got.status_code, got.text, got.headers["www-authenticate"]))
    assert len(told) == 1
