"""How a configuration says what is shown to upstreams."""

import json

import pytest
from pydantic import ValidationError

from proxy.config.model import Config, UpstreamConfig
from proxy.config.outbound import NEVER_FORWARDED, AuthKind, Per
from proxy.config.secrets import masked

URL = "https://example.com/mcp"


def faults(**more: object) -> str:
    with pytest.raises(ValidationError) as caught:
        UpstreamConfig.model_validate({"url": URL, **more})
    return str(caught.value)


def test_oauth_has_a_short_form() -> None:
    short = UpstreamConfig.model_validate({"url": URL, "auth": "oauth"}).auth
    assert short == UpstreamConfig.model_validate({"url": URL, "auth": {"type": "oauth"}}).auth
    assert short is not None
    assert (short.type, short.per) == (AuthKind.OAUTH, Per.SHARED)


def test_the_words_of_cursor_are_understood() -> None:
    auth = UpstreamConfig.model_validate({"url": URL, "auth": {"CLIENT_ID": "c", "CLIENT_SECRET": "s"}}).auth
    assert auth is not None
    assert (auth.type, auth.client_id) == (AuthKind.OAUTH, "c")


@pytest.mark.parametrize(
    ("auth", "what"),
    [
        ({"type": "bearer"}, "token"),
        ({"type": "bearer", "token": ""}, "token"),
        ({"type": "bearer", "token": "t", "client_id": "c"}, "has no meaning"),
        ({"type": "client_credentials", "client_id": "c"}, "client_secret"),
        ({"type": "client_credentials", "client_id": "c", "client_secret": "s", "per": "agent"}, "has no meaning"),
        ({"type": "oauth", "client_secret": "s"}, "stands without client_id"),
        ({"type": "oauth", "token_url": "https://x/y"}, "has no meaning"),
        ({"type": "oauth", "issuer": "x"}, "is not an http or https URL"),
        ({"type": "oauth", "client_metadata_url": "http://example.com/x"}, "is not an https URL with a path"),
        ({"type": "oauth", "client_id": "c", "client_metadata_url": "https://example.com/x"}, "next to client_id"),
        ({"type": "oauth", "redirect_port": 70000}, "redirect_port"),
        ({"type": "basic"}, "type"),
        ({"type": "oauth", "tokn": 1}, "tokn"),
    ],
)
def test_an_auth_that_makes_no_sense_is_refused(auth: dict[str, object], what: str) -> None:
    assert what in faults(auth=auth)


@pytest.mark.parametrize("part", [{"auth": "oauth"}, {"forward_headers": ["X-A"]}])
def test_a_local_server_has_nobody_to_prove_anything_to(part: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="has no meaning for a local server"):
        UpstreamConfig.model_validate({"command": "x", **part})


def test_there_is_one_authorization_header() -> None:
    assert "next to auth" in faults(auth="oauth", headers={"authorization": "x"})
    own = {"agents": {"a": {"auth": "oauth", "headers": {"Authorization": "x"}}}}
    assert "next to auth" in faults(credentials=own)


@pytest.mark.parametrize(
    "name",
    [
        *sorted(NEVER_FORWARDED),
        "Authorization",
        "COOKIE",
        "Mcp-Session-Id",
        "mcp-anything",
        "Sec-Fetch-Site",
        "X-*",
        "*",
        "",
    ],
)
def test_what_proves_or_steers_is_never_forwarded(name: str) -> None:
    assert "forward_headers" in faults(forward_headers=[name])


def test_a_client_cannot_replace_a_header_of_the_operator() -> None:
    assert "stands in headers" in faults(headers={"X-Key": "k"}, forward_headers=["x-key"])
    own = {"principals": {"p": {"headers": {"X-Key": "k"}}}}
    assert "stands in headers" in faults(credentials=own, forward_headers=["X-KEY"])


def test_credentials_of_an_agent_that_does_not_exist_are_refused() -> None:
    data = {"upstreams": {"up": {"url": URL, "credentials": {"agents": {"codr": {}}}}}, "agents": {"coder": {}}}
    with pytest.raises(ValidationError, match="is no configured agent"):
        Config.model_validate(data)


def test_no_secret_is_shown() -> None:
    secret = "planted-secret-value"  # noqa: S105 - made up for this test
    auth = {"type": "oauth", "client_id": "c", "client_secret": secret}
    own = {
        "agents": {"a": {"headers": {"X-Key": secret}}},
        "principals": {"p": {"auth": {"type": "bearer", "token": secret}}},
    }
    config = Config.model_validate(
        {"upstreams": {"up": {"url": URL, "auth": auth, "credentials": own}}, "agents": {"a": {}}}
    )
    assert secret not in json.dumps(masked(config))
    assert secret not in repr(config)
