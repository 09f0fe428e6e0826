"""What a configuration may say about the policy of an agent."""

from typing import Any

import pytest

from proxy.config.access import Per, Rate
from proxy.config.diff import diff
from proxy.config.load import load_data, load_text
from proxy.config.model import AgentConfig, Config
from proxy.config.secrets import masked, secrets_of
from proxy.errors import ConfigError

SECRET = "s3cret-v4lue-of-an-argument"  # noqa: S105 - planted, to be looked for


def agent(**settings: Any) -> AgentConfig:
    return load_data({"agents": {"a": settings}}, env={"KEY": SECRET}).config.agents["a"]


def problem(**settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        agent(**settings)
    return str(caught.value)


def fixing(value: Any) -> dict[str, Any]:
    return {"overrides": {"files.find": {"arguments": {"root": {"value": value}}}}}


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [
        ("60/min", 60, 60),
        ("5/s", 5, 1),
        (" 1000 / h ", 1000, 3600),
        ("10/30s", 10, 30),
        ("1/1h30m", 1, 5400),
        ("2/day", 2, 86400),
    ],
)
def test_a_rate_is_so_many_in_so_much_time(text: str, count: int, seconds: float) -> None:
    found = agent(limits={"calls": text}).limits
    assert found is not None
    assert found.calls == Rate(count=count, seconds=seconds)
    assert found.per is Per.AGENT


@pytest.mark.parametrize("rate", ["60", 60, "0/s", "5/fortnight", "5/0s", "-1/s", "5/", "1.5/s"])
def test_what_is_no_rate_is_told_with_an_example(rate: Any) -> None:
    told = problem(limits={"calls": rate})
    assert "agents.a.limits.calls: is not a rate" in told
    assert "60/min" in told


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"annotations": {"readOnly": True}}, "did you mean readOnlyHint?"),
        ({"limits": {"concurency": 1}}, "did you mean concurrency?"),
        ({"limits": {"concurrency": 0}}, "must be at least 1"),
        ({"overrides": {"t": {"nam": "x"}}}, "agents.a.overrides.t.nam: is not a known option (did you mean name?)"),
        ({"overrides": {"t": {"name": "a b"}}}, "is not a name that every client takes"),
        ({"overrides": {"t": {"arguments": {"x": "y"}}}}, "its options: value, hide, default, name, description"),
        ({"overrides": {"t": {"arguments": {"x": {"value": 1, "name": "y"}}}}}, "has a fixed value"),
        (
            {"overrides": {"t": {"arguments": {"x": {"name": "z"}, "y": {"name": "z"}}}}},
            "gives two arguments the same name",
        ),
    ],
)
def test_a_mistake_is_told_where_it_stands(settings: dict[str, Any], told: str) -> None:
    assert told in problem(**settings)


@pytest.mark.parametrize("value", [None, False, 0, "", [1], {"a": None}, "${env:KEY}"])
def test_any_value_can_be_fixed_and_is_never_shown(value: Any) -> None:
    config = Config(agents={"a": agent(**fixing(value))})
    argument = config.agents["a"].overrides["files.find"].arguments["root"]
    assert argument.value is not None
    assert argument.value.get_secret_value() == (SECRET if value == "${env:KEY}" else value)
    assert SECRET not in f"{config!r} {config} {masked(config)}"


def test_a_mistake_beside_a_fixed_value_does_not_tell_it() -> None:
    settings = fixing("${env:KEY}")
    settings["overrides"]["files.find"]["arguments"]["root"]["nmae"] = "x"
    assert SECRET not in problem(**settings)
    settings = fixing(SECRET)
    settings["overrides"]["files.find"]["arguments"]["root"]["default"] = 1
    assert SECRET not in problem(**settings)


def test_a_fixed_value_is_a_secret_for_logs() -> None:
    config = Config(agents={"a": agent(**fixing({"inside": ["${env:KEY}"]}))})
    assert SECRET in set(secrets_of(config))
    assert "/srv" not in set(secrets_of(Config(agents={"a": agent(**fixing("/srv"))})))


def test_another_fixed_value_is_another_agent() -> None:
    one, same, other, none = (
        Config(agents={"a": agent(**settings)}) for settings in (fixing(1), fixing(1), fixing(2), {})
    )
    assert not diff(one, same)
    assert diff(one, none).agents == {"a"}
    assert diff(one, other).agents == {"a"}


def test_a_file_may_say_nothing_where_nothing_is_meant() -> None:
    text = "agents:\n  a:\n    limits:\n    overrides:\n    annotations:\n    read_only:\n"
    assert load_text(text, "yaml").config.agents["a"] == AgentConfig()
