from pathlib import Path

import pytest

from proxy.config.load import load
from proxy.config.model import Config, PinMode
from proxy.errors import ConfigError


def loaded(folder: Path, text: str) -> Config:
    file = folder / "manifold.yaml"
    file.write_text(text)
    return load(file).config


@pytest.mark.parametrize("default", [*PinMode])
@pytest.mark.parametrize("own", [None, *PinMode])
def test_an_upstream_goes_by_its_own_policy_or_else_by_the_general_one(
    tmp_path: Path, default: PinMode, own: PinMode | None
) -> None:
    pin = "" if own is None else f"    pin: {own.value}\n"
    config = loaded(tmp_path, f"pinning: {default.value}\nmcpServers:\n  a:\n    command: x\n{pin}")
    assert config.pin_of("a") is (own or default)


@pytest.mark.parametrize("text", ["", "pinning:\n", "pinning: off\n", 'pinning: "off"\n', "pinning: false\n"])
def test_pinning_is_off_unless_something_else_is_said(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, f"{text}mcpServers: {{a: {{command: x, pin: }}}}").pin_of("a") is PinMode.OFF


def test_a_json_file_may_say_it_too(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text('{"pinning": "hold", "mcpServers": {"a": {"command": "x", "pin": "warn"}, "b": {"command": "y"}}}')
    config = load(file).config
    assert [config.pin_of(name) for name in "ab"] == [PinMode.WARN, PinMode.HOLD]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("pinning: on\nmcpServers: {a: {command: x}}", "pinning"),
        ("pinning: held\nmcpServers: {a: {command: x}}", "pinning"),
        ("pinning: {a: hold}\nmcpServers: {a: {command: x}}", "pinning"),
        ("mcpServers: {a: {command: x, pin: always}}", "mcpServers.a.pin"),
    ],
)
def test_another_policy_is_refused_and_those_there_are_are_named(tmp_path: Path, text: str, path: str) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, text)
    (problem,) = error.value.problems
    assert problem.path == path
    assert problem.line
    assert "hold" in str(problem)
