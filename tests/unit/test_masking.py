"""Secrets in texts (proxy/masking.py): none that is known is left, and little else is touched."""

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.model import Config
from proxy.config.secrets import secrets_of
from proxy.errors import ConnectFailed, Rejected
from proxy.masking import MASK, Secrets, learn, masked, masked_value, telling

SECRETS = st.text(min_size=8, max_size=40).filter(lambda text: len(text.strip()) >= 8)


@given(SECRETS, st.text(max_size=20), st.text(max_size=20))
def test_a_known_secret_is_in_no_text(secret: str, before: str, after: str) -> None:
    secrets = Secrets()
    secrets.learn([secret])
    assert secret.strip() not in secrets.known_masked(before + secret + after).replace(MASK, "\0")


@given(SECRETS)
def test_nor_as_json_nor_in_a_url(secret: str) -> None:
    secrets = Secrets()
    secrets.learn([secret])
    value = secret.strip()
    for form in (json.dumps(value), json.dumps(value, ensure_ascii=False), "https://host/?q=" + quote(value, safe="")):
        assert MASK in secrets.known_masked(form)


@given(st.lists(SECRETS, min_size=2, max_size=5))
def test_one_secret_inside_another_does_not_save_it(values: list[str]) -> None:
    secrets = Secrets()
    secrets.learn([*values, values[0] + values[1]])
    text = secrets.known_masked(values[0] + values[1])
    assert values[1].strip() not in text.replace(MASK, "\0")


def test_what_is_too_short_to_be_a_secret_masks_nothing() -> None:
    secrets = Secrets()
    secrets.learn(["a", "error", ""])
    assert secrets.known_masked("an error") == "an error"


def test_the_credential_in_a_header_is_known_without_its_scheme() -> None:
    secrets = Secrets()
    secrets.learn(["Bearer abc-DEF-123"])
    assert secrets.known_masked("they sent abc-DEF-123 back") == f"they sent {MASK} back"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("GET https://me:pass1234@host/x failed", f"GET https://me:{MASK}@host/x failed"),
        ("https://host/x?access_token=abc&page=2", f"https://host/x?access_token={MASK}&page=2"),
        ("https://host/cb?code=xyz#top", f"https://host/cb?code={MASK}#top"),
        ("Authorization: Bearer eyJhbGciOi.x1.y2", f"Authorization: Bearer {MASK}"),
        ('{"a":"://u:secret","b":"c@d"}', '{"a":"://u:secret","b":"c@d"}'),
        ("Bearer authentication is required", "Bearer authentication is required"),
        ("see https://example.com/docs?page=2", "see https://example.com/docs?page=2"),
    ],
)
def test_what_looks_like_a_credential_is_masked_and_nothing_else(text: str, left: str) -> None:
    assert masked(text) == left


@pytest.mark.parametrize(
    "value", ["production", "8080", "/usr/local/bin", "text/event-stream", "https://example.com/x"]
)
def test_values_for_people_are_no_secrets(value: str) -> None:
    assert telling(value)


@pytest.mark.parametrize("value", ["hunter2-hunter2", "s3cr3tValue", "https://u:p@example.com", "AKIA1234567890"])
def test_other_values_may_be(value: str) -> None:
    assert not telling(value)


def test_every_secret_of_a_configuration_is_found() -> None:
    config = Config.model_validate(
        {
            "server": {"state_keys": ["seal-seal-seal-seal-seal-seal-seal"]},
            "upstreams": {
                "a": {
                    "command": "x",
                    "args": ["--api-key", "arg-value-1", "--token=arg-value-2"],
                    "env": {"K": "env-1!"},
                },
                "b": {"url": "https://u:url-pass@h/?token=url-token&page=2", "headers": {"X-Key": "Bearer head-1"}},
                "c": {"command": "x", "env": {"MODE": "production", "DB_PASSWORD": "plainword"}},
            },
        }
    )
    found = set(secrets_of(config))
    assert {"arg-value-1", "arg-value-2", "env-1!", "url-pass", "url-token", "Bearer head-1", "plainword"} <= found
    assert "seal-seal-seal-seal-seal-seal-seal" in found
    assert found.isdisjoint({"production", "2"})


def test_an_error_never_has_a_known_secret_in_it_nor_in_its_data() -> None:
    learn(["planted-in-errors-1"])
    told = ConnectFailed("cannot reach https://u:pw123456@h", hint="it said planted-in-errors-1")
    assert told.text() == f"cannot reach https://u:{MASK}@h. it said {MASK}"
    assert "pw123456" not in str(told)
    refused = Rejected(-32000, "bad key planted-in-errors-1", {"sent": ["planted-in-errors-1"], "code": 7})
    assert (refused.message, refused.data) == (f"bad key {MASK}", {"sent": [MASK], "code": 7})


def test_the_upstream_s_own_words_stay_as_they_are_otherwise() -> None:
    text = "see https://u:p4ssword@example.com/?token=abc"
    assert Rejected(-32000, text, {"url": text}).message == text
    assert masked_value({"n": 1, "t": (text, None)}) == {"n": 1, "t": [text, None]}
