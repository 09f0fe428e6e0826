"""Who a downstream is, by what it shows."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.inbound import is_loopback
from proxy.config.model import Config
from proxy.errors import ConfigError
from proxy.gateway.exposure import check_exposure
from proxy.gateway.identity import INVALID, LARGEST, MISSING, NOBODY, Access, Identity, Refusal
from proxy.gateway.metadata import Metadata
from proxy.model import Caller, Principal

ANN, EVE, STORE = "ann-0123456789abcdef", "eve-0123456789abcdef", "store-0123456789abcdef"


def config(**sections: object) -> Config:
    agents = {"a": {"tokens": [ANN]}, "b": {"tokens": [EVE]}}
    return Config.model_validate({"agents": agents, "auth": {"tokens": [STORE]}, **sections})


def header(token: str) -> bytes:
    return f"Bearer {token}".encode()


def access(identity: Identity, token: str) -> Access:
    found = identity.recall(header(token))
    assert isinstance(found, Access)
    return found


def test_nobody_has_to_show_anything_where_nothing_is_configured() -> None:
    identity = Identity(Config())
    assert identity.recall(None) is NOBODY
    assert identity.recall(header("anything")) is NOBODY


def test_each_token_is_a_principal_of_its_own() -> None:
    identity = Identity(config())
    found = [access(identity, token).principal for token in (ANN, EVE, STORE)]
    assert [one.agents for one in found] == [("a",), ("b",), ()]
    assert len({one.id for one in found}) == 3
    assert all(token not in repr(found) for token in (ANN, EVE, STORE))


def test_a_principal_is_the_same_in_every_replica_and_after_a_reload() -> None:
    identity = Identity(config())
    before = access(identity, ANN)
    identity.configure(config())
    assert access(identity, ANN) == before == access(Identity(config()), ANN)
    assert identity.stands(before.principal.id)


def test_a_token_that_is_configured_no_more_is_bad() -> None:
    identity = Identity(config())
    before = access(identity, ANN)
    identity.configure(config(agents={"a": {}, "b": {"tokens": [EVE]}}))
    assert identity.recall(header(ANN)) is INVALID
    assert not identity.stands(before.principal.id)


def test_doors_that_asked_go_on_asking_when_the_last_credential_goes() -> None:
    identity = Identity(config())
    identity.configure(Config())
    assert identity.recall(None) is MISSING
    assert identity.recall(header(ANN)) is INVALID


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        (None, MISSING),
        (b"", MISSING),
        (b"Basic YTpi", MISSING),
        (b"Bearer", MISSING),
        (b"Bearer ", INVALID),
        (b"Bearer a b", INVALID),
        (header(ANN)[:-1], INVALID),
        (header(ANN) + b"x", INVALID),
        (b"Bearer " + b"x" * LARGEST, INVALID),
        (b"Bearer a.b.c", INVALID),
        (b"Bearer mcpm_x", INVALID),
    ],
)
def test_what_is_no_credential_is_refused(said: bytes | None, refusal: Refusal) -> None:
    assert Identity(config()).recall(said) is refusal


@pytest.mark.parametrize("said", [header(ANN), b"bearer " + ANN.encode(), b"BEARER   " + ANN.encode() + b" "])
def test_the_word_bearer_is_written_as_one_likes(said: bytes) -> None:
    assert isinstance(Identity(config()).recall(said), Access)


@given(said=st.binary(max_size=100))
def test_no_header_lets_a_stranger_in(said: bytes) -> None:
    assert isinstance(Identity(config()).recall(said), Refusal)


async def test_what_looks_like_a_signed_token_and_is_none_is_refused() -> None:
    issuer = {"issuer": "https://i.test", "audience": "a", "public_key": "0" * 40, "algorithms": "HS256"}
    identity = Identity(config(auth={"jwt": issuer}))
    for token in ("..", "a.b.c", "e30.e30.", "[].[].x", "bnVsbA.bnVsbA.bnVsbA"):
        assert identity.recall(header(token)) is None
        assert await identity.verify(header(token)) is INVALID


@pytest.mark.parametrize("depth", [10, 300, 900, 3000])
async def test_a_token_that_is_nested_too_deeply_is_refused(depth: int) -> None:
    issuer = {"issuer": "https://i.test", "audience": "a", "public_key": "0" * 40, "algorithms": "HS256"}
    identity = Identity(config(auth={"jwt": issuer}))
    head = '{"alg":"HS256","x":' + "[" * depth + "]" * depth + "}"
    parts = [head, '{"iss":"https://i.test","aud":"a","exp":9e999}', "x"]
    token = ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
    assert await identity.verify(header(token)) is INVALID


def test_an_owner_is_principal_and_agent() -> None:
    owners = {
        Caller(agent=agent, principal=Principal(number)).owner
        for agent in (None, "a", "b", "a+b")
        for number in ("", "token:1", "token:2")
    }
    assert len(owners) == 12
    assert Caller().owner == ""


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - what is to be refused
        ("::", False),
        ("192.168.1.2", False),
        ("localhost.example.com", False),
        ("manifold.example.com", False),
    ],
)
def test_only_this_machine_may_be_served_without_credentials(host: str, local: bool) -> None:
    open_to_all = Config.model_validate({"server": {"host": host}})
    assert is_loopback(host) is local
    if not local:
        with pytest.raises(ConfigError, match="nobody has to present a credential"):
            check_exposure(open_to_all, None)
    check_exposure(config(server={"host": host}), None)
    check_exposure(Config.model_validate({"server": {"host": host, "insecure": True}}), None)


def test_a_challenge_cannot_be_written_by_who_asks() -> None:
    oauth = {"jwt": {"issuer": "https://i.test", "public_key": "k"}, "oauth": {"url": "https://m.test/"}}
    metadata = Metadata(config(auth=oauth, server={"name": 'my "own" \\ häm'}), ("/mcp", "/sse"))
    told = metadata.challenge({"path": '/agents/x", realm="y/mcp'}, INVALID).decode()
    assert told.count("realm=") == 1
    assert 'resource_metadata="https://m.test/.well-known/oauth-protected-resource/mcp"' in told
