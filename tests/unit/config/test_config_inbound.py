"""What a configuration may say about who comes in, and what is said about what it must not say."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.config.load import load_text
from proxy.config.model import Config
from proxy.config.schema import file_schema
from proxy.config.secrets import masked
from proxy.errors import ConfigError
from tests.unit.config.test_config_shipped import accepts

TOKEN = "0123456789abcdef-secret"  # noqa: S105 - no secret of anybody's
KEY = {"public_key": "k"}


def loaded(**sections: Any) -> Config:
    return load_text(json.dumps({"mcpServers": {"a": {"command": "x"}}, **sections}), "yaml", "f.yaml").config


def problems(**sections: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        loaded(**sections)
    return str(refused.value)


@pytest.mark.parametrize(
    "token", ["", "short", "with a blank in its middle", "ümläut-0123456789abc", "line\nbreak-0123456789"]
)
def test_what_is_no_token_is_refused_and_not_repeated(token: str) -> None:
    for said in (problems(auth={"tokens": [token]}), problems(agents={"a": {"tokens": [token]}})):
        assert "is not a token: at least 16 visible ASCII characters" in said
        assert "openssl rand -hex 32" in said
        assert not token or token not in said


def test_a_token_in_two_places_is_refused_and_not_repeated() -> None:
    said = problems(agents={"a": {"tokens": [TOKEN]}, "b": {"tokens": [TOKEN]}})
    assert "f.yaml" in said
    assert "agents.b.tokens[0]: is the same token as one under agents.a.tokens" in said
    assert TOKEN not in said


def test_tokens_and_keys_are_masked() -> None:
    config = loaded(
        auth={"tokens": [TOKEN], "jwt": {"issuer": "i", "audience": "a", "public_key": TOKEN + "key"}},
        agents={"a": {"tokens": [TOKEN + "a"]}},
    )
    shown = json.dumps(masked(config), default=str)
    assert TOKEN not in shown
    assert TOKEN not in repr(config)


@pytest.mark.parametrize(
    ("jwt", "said"),
    [
        ({"audience": "a", **KEY}, "issuer"),
        ({"issuer": "i", **KEY}, "auth.jwt[0].audience: is missing"),
        ({"issuer": "i", "audience": "a"}, "jwks_url: is missing"),
        ({"issuer": "i", "audience": "a", "jwks_url": "https://i/k", **KEY}, "stands next to public_key"),
        ({"issuer": "i", "audience": "a", "jwks_url": "http://i.test/k"}, "is not https"),
        ({"issuer": "i", "audience": "a", "jwks_url": "https://i/k", "algorithms": ["HS256"]}, "HS algorithm"),
        ({"issuer": "i", "audience": "a", "algorithms": ["HS256", "RS256"], **KEY}, "mixes HS algorithms"),
        ({"issuer": "i", "audience": "a", "algorithms": ["none"], **KEY}, "is no algorithm"),
        ({"issuer": "i", "audience": "a", "issuers": [], **KEY}, "is not a known option"),
    ],
)
def test_what_is_wrong_with_an_issuer_is_said(jwt: dict[str, Any], said: str) -> None:
    assert said in problems(auth={"jwt": jwt})


def test_a_log_in_needs_an_issuer_whose_tokens_are_taken() -> None:
    assert "no token from there is taken" in problems(auth={"oauth": {"url": "https://m.test"}})


def test_one_of_something_needs_no_list() -> None:
    one = loaded(auth={"jwt": {"issuer": "i", "audience": "a", "algorithms": "ES256", **KEY}}).auth.jwt[0]
    assert (one.audience, one.algorithms) == (("a",), ("ES256",))


def test_the_schema_takes_what_the_loader_takes(tmp_path: Path) -> None:
    assert file_schema()["$defs"]["InboundConfig"]
    for auth in (
        {"tokens": ["${env:X}"]},
        {"jwt": {"issuer": "i", "audience": "a", "public_key": "k"}},
        {"jwt": [{"issuer": "i", "audience": ["a"], "jwks_url": "https://i/k", "leeway": "5s"}]},
        {"jwt": {"issuer": "i", "jwks_url": "https://i/k"}, "oauth": {"url": "https://m.test", "scopes": "tools"}},
    ):
        data = {"mcpServers": {"a": {"command": "x"}}, "auth": auth}
        assert accepts(data), auth
        load_text(json.dumps(data), "yaml", str(tmp_path / "f.yaml"), env={"X": TOKEN})
    assert not accepts({"auth": {"tokens": TOKEN}})
    assert not accepts({"auth": {"unknown": 1}})
