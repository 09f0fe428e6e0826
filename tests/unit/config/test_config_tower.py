"""The options of the tower: their defaults, their limits, and what is said about wrong ones."""

import json
from typing import Any

import pytest

from proxy.config.diff import TUNING, diff
from proxy.config.load import load_text
from proxy.config.model import Config, UpstreamConfig
from proxy.config.tower import PARTS, TowerConfig
from proxy.errors import ConfigError


def loaded(**options: Any) -> UpstreamConfig:
    text = json.dumps({"mcpServers": {"a": {"command": "x", **options}}})
    return load_text(text, "json", env={"N": "7"}).config.upstreams["a"]


def problem(**options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(**options)
    [found] = caught.value.problems
    return str(found)


def test_durations_in_all_parts_may_be_written_with_units_and_as_references() -> None:
    config = loaded(
        retry={"backoff": "50ms", "attempts": "${N}"},
        breaker={"open_for": "1m"},
        timeouts={"build_*": "10m"},
        cache={"ttl": "2h"},
    )
    assert (config.retry.backoff, config.retry.attempts) == (0.05, 7)
    assert config.breaker.open_for == 60.0
    assert config.timeouts == {"build_*": 600.0}
    assert config.cache is not None
    assert config.cache.ttl == 7200.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retry": {"atempts": 3}}, "did you mean"),
        ({"retry": {"attempts": 0}}, "at least 1"),
        ({"breaker": False}, "its options: enabled"),
        ({"breaker": {"failure_rate": 1.5}}, "at most 1"),
        ({"breaker": {"failure_rate": "high"}}, "must be a number"),
        ({"rate_limit": {"rate": True}}, "must be a"),
        ({"rate_limit": {"rate": 0}}, "more than 0"),
        ({"degraded": {"warning": 0.6}}, "has a warning above critical"),
        ({"timeouts": {"a": "soon"}}, "is not a duration"),
        ({"hedge": 0}, "more than 0"),
        ({"coalesce": "perhaps"}, "true or false"),
        ({"cache": {"ttl": "1s", "size": 3}}, "known here: ttl, max_entries"),
    ],
)
def test_a_wrong_option_is_named_with_its_remedy(options: dict[str, Any], words: str) -> None:
    assert words in problem(**options)


def test_every_option_of_the_tower_can_change_without_another_link() -> None:
    assert TowerConfig.model_fields.keys() <= TUNING
    old = Config(upstreams={"a": UpstreamConfig(command="x")})
    new = Config(upstreams={"a": loaded(retry={"attempts": 1}, cache={}, breaker={"probes": 1}, timeouts={"a": 1})})
    assert list(diff(old, new).retuned) == ["a"]


@pytest.mark.parametrize("name", PARTS)
def test_every_part_has_a_default_for_each_option(name: str) -> None:
    assert getattr(loaded(**{name: {}}), name) == PARTS[name]()
