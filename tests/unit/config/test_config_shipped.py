"""What is handed out works: the configurations in configs/, their schema, and the masked view."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from proxy.config.inbound import PARTS as INBOUND
from proxy.config.inbound import InboundConfig
from proxy.config.load import load, load_data, load_text
from proxy.config.model import AgentConfig, Config, Filter, LogConfig, NamingConfig, ServerConfig, UpstreamConfig
from proxy.config.node import plain
from proxy.config.schema import file_schema
from proxy.config.secrets import MASK, masked, masked_args, masked_url
from proxy.config.syntax import format_of, parse
from proxy.config.tower import PARTS

CONFIGS = Path(__file__).parents[3] / "configs"
SHIPPED = sorted(path for path in CONFIGS.iterdir() if path.is_file())
ENV = {
    "GITHUB_TOKEN": "t1",
    "SEARCH_TOKEN": "t2",
    "TICKETS_KEY": "t3",
    "SUPPORT_TOKEN": "support-0123456789",
    "DEVELOPER_TOKEN": "developer-0123456789",
}


def content(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return plain(parse(text, format_of(str(path), text), str(path)).root)


def accepts(data: object) -> bool:
    return bool(jsonschema.Draft202012Validator(file_schema()).is_valid(data))


def test_there_are_examples_of_every_format_and_dialect() -> None:
    assert {path.name for path in SHIPPED} >= {
        "chain.yaml",
        "cursor.json",
        "demo.yaml",
        "desktop.json",
        "full.yaml",
        "minimal.toml",
        "team-http.yaml",
        "vscode-mcp.json",
    }


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_configuration_loads(path: Path) -> None:
    loaded = load(path, env=ENV)
    assert loaded.config.upstreams
    foreign = [warning for warning in loaded.warnings if "not ours" not in warning.message]
    assert foreign == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_configuration_fits_the_schema(path: Path) -> None:
    jsonschema.validate(content(path), file_schema(), cls=jsonschema.Draft202012Validator)


def test_the_full_configuration_says_every_default() -> None:
    config = load(CONFIGS / "full.yaml", env={}).config
    assert config.model_copy(update={"upstreams": {}, "agents": {}}) == Config()
    assert config.upstreams["local"] == UpstreamConfig(command="uvx")
    assert config.agents["everything"] == AgentConfig()


def test_the_full_configuration_names_every_option() -> None:
    text = (CONFIGS / "full.yaml").read_text(encoding="utf-8")
    models: tuple[type[BaseModel], ...] = (
        ServerConfig,
        LogConfig,
        NamingConfig,
        UpstreamConfig,
        AgentConfig,
        Filter,
        *PARTS.values(),
        InboundConfig,
        *INBOUND.values(),
    )
    missing = [name for model in models for name in model.model_fields if f"{name}:" not in text]
    assert missing == []


def test_the_schema_is_one_and_says_what_each_option_is() -> None:
    schema = file_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    json.dumps(schema)
    for name, each in schema["$defs"]["UpstreamConfig"]["properties"].items():
        assert each.get("description"), name


@pytest.mark.parametrize(
    "data",
    [
        {},
        {
            "mcpServers": {
                "a": {"command": "x", "timeout": "30s", "max_message": "4MiB", "args": [8080], "env": {"A": 1}}
            }
        },
        {"mcpServers": {"a": {"command": "x", "timeout": "${T}", "lazy": "${L}", "queue": "${Q}", "session": "${S}"}}},
        {"mcpServers": {"a": {"serverUrl": "http://h", "transportType": "streamableHttp", "disabled": True}}},
        {"mcpServers": {"a": {"command": "x", "autoApprove": [], "_note": "n", "disabledTools": ["b"]}}},
        {"mcp": {"servers": {"a": {"command": "x", "envFile": ".env"}}}, "x-base": {}},
        {"mcpServers": {"a": {"command": "x", "tools": ["a"], "prompts": {"deny": ["b"]}}}},
        {"server": {"port": "${PORT:-1}", "max_body": 5000}, "globalShortcut": ""},
    ],
)
def test_the_schema_and_the_loader_accept_the_same_files(data: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1")
    env = {"T": "5s", "L": "no", "Q": "7", "S": "agent"}
    load_text(json.dumps(data), "json", str(tmp_path / "f.json"), env=env)
    assert accepts(data)


@pytest.mark.parametrize(
    "data",
    [
        {"mcpServer": {}},
        {"mcpServers": []},
        {"mcpServers": {"a": {"comand": "x"}}},
        {"mcpServers": {"a": {"command": ["x"]}}},
        {"mcpServers": {"a": {"command": "x", "timeout": "soon"}}},
        {"mcpServers": {"a": {"command": "x", "max_message": "big"}}},
        {"mcpServers": {"a": {"command": "x", "session": "mine"}}},
        {"agents": {"a": {"names": "x"}}},
        {"server": {"port": 99999}},
    ],
)
def test_the_schema_and_the_loader_refuse_the_same_files(data: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"must be|known option|is not"):
        load_text(json.dumps(data), "json", env={})
    assert not accepts(data)


SECRET = "s3cret"  # noqa: S105 - made up, to be looked for in what is shown
SECRETIVE = {
    "server": {"port": 9000},
    "mcpServers": {
        "web": {
            "url": f"https://user:{SECRET}@example.com/mcp?key={SECRET}&x={SECRET}",
            "headers": {"Authorization": f"Bearer {SECRET}"},
        },
        "two": {"urls": [f"https://{SECRET}@a.example.com/"]},
        "local": {"command": "x", "args": ["--api-key", SECRET, f"--token={SECRET}", "-v"], "env": {"A": SECRET}},
    },
}


def test_a_masked_configuration_shows_no_secret_and_everything_else() -> None:
    shown = masked(load_data(SECRETIVE, env={}).config)
    assert SECRET not in json.dumps(shown)
    assert shown["mcpServers"]["web"]["url"] == f"https://user:{MASK}@example.com/mcp?key={MASK}&x={MASK}"
    assert shown["mcpServers"]["web"]["headers"] == {"Authorization": MASK}
    assert shown["mcpServers"]["local"]["args"] == ["--api-key", MASK, f"--token={MASK}", "-v"]
    assert shown["server"]["port"] == 9000


def test_a_masked_configuration_may_leave_defaults_out_and_is_still_a_configuration() -> None:
    config = load_data(SECRETIVE, env={}).config
    shown = masked(config, defaults=False)
    assert shown["server"] == {"port": 9000}
    again = load_data(shown, env={}).config
    assert masked(again) == masked(config)


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (["--header", "X-Key: v"], ["--header", MASK]),
        (["--password", "--verbose"], ["--password", "--verbose"]),
        (["API_TOKEN=v", "mode=fast"], [f"API_TOKEN={MASK}", "mode=fast"]),
        (["postgres://u:p@h/db", "https://h/x"], [f"postgres://u:{MASK}@h/db", "https://h/x"]),
    ],
)
def test_arguments_that_sound_secret_are_masked(args: list[str], shown: list[str]) -> None:
    assert masked_args(args) == shown


def test_a_url_without_secrets_is_shown_as_it_is() -> None:
    assert masked_url("https://example.com:8443/mcp") == "https://example.com:8443/mcp"
