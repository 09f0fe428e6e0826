from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from proxy.config.model import (
    AgentConfig,
    Config,
    EraChoice,
    Filter,
    LogConfig,
    LogLevel,
    NamingConfig,
    Scope,
    ServerConfig,
    Transport,
    UpstreamConfig,
)


def faults(model: type[Any], data: object) -> dict[tuple[str | int, ...], str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(data)
    return {each["loc"]: each["msg"] for each in caught.value.errors()}


def test_an_empty_configuration_is_complete() -> None:
    config = Config()
    assert (config.server.host, config.server.port, config.server.path) == ("127.0.0.1", 8300, "/mcp")
    assert config.naming.pattern == "mcp_{server}_{tool}"
    assert config.upstreams == {}
    assert config.agents == {}


def test_an_upstream_has_the_defaults_of_a_desktop() -> None:
    upstream = UpstreamConfig(command="npx")
    assert upstream.type is Transport.STDIO
    assert upstream.session is Scope.SHARED
    assert upstream.era is EraChoice.AUTO
    assert (upstream.timeout, upstream.start_timeout, upstream.refresh, upstream.stop_timeout) == (60, 60, 1800, 2)
    assert (upstream.max_message, upstream.concurrency, upstream.queue) == (64 * 1024**2, 64, 256)
    assert upstream.enabled
    assert upstream.idle_timeout is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"command": "x"}, Transport.STDIO),
        ({"url": "http://h/mcp"}, Transport.HTTP),
        ({"url": "http://h/sse"}, Transport.SSE),
        ({"url": "http://h/sse/?key=1"}, Transport.SSE),
        ({"url": "http://h/sser"}, Transport.HTTP),
        ({"urls": ["http://a/sse", "http://b/mcp"]}, Transport.HTTP),
        ({"url": "http://h/sse", "type": "http"}, Transport.HTTP),
        ({"url": "http://h/mcp", "type": "sse"}, Transport.SSE),
        ({"url": "http://h", "type": "streamable_http"}, Transport.HTTP),
        ({"url": "http://h", "type": "streamable-http"}, Transport.HTTP),
        ({"url": "http://h", "type": "streamableHttp"}, Transport.HTTP),
        ({"command": "x", "type": "STDIO"}, Transport.STDIO),
    ],
)
def test_the_transport_is_spelt_out_or_inferred(data: dict[str, Any], expected: Transport) -> None:
    assert UpstreamConfig.model_validate(data).type is expected


def test_the_grace_of_a_first_listing_depends_on_the_transport_unless_set() -> None:
    assert UpstreamConfig(command="x").first_list_grace == 5.0
    assert UpstreamConfig(url="http://h/mcp").first_list_grace == 1.5
    assert UpstreamConfig(url="http://h/sse").first_list_grace == 1.5
    assert UpstreamConfig(command="x", grace=0.0).first_list_grace == 0.0


def test_endpoints_are_the_url_or_the_urls() -> None:
    assert UpstreamConfig(url="http://a/").endpoints == ("http://a/",)
    assert UpstreamConfig(urls=("http://a/", "http://b/")).endpoints == ("http://a/", "http://b/")
    assert UpstreamConfig(command="x").endpoints == ()


@pytest.mark.parametrize(
    ("data", "place", "words"),
    [
        ({}, ("command",), "missing"),
        ({"type": "http"}, ("url",), "missing"),
        ({"command": "x", "url": "http://h"}, ("url",), "next to command"),
        ({"type": "stdio", "url": "http://h"}, ("type",), "stdio"),
        ({"type": "sse", "command": "x"}, ("type",), "sse"),
        ({"command": " "}, ("command",), "empty"),
        ({"url": "example.com/mcp"}, ("url",), "http"),
        ({"url": "ftp://example.com"}, ("url",), "http"),
        ({"url": "http:///mcp"}, ("url",), "without a host"),
        ({"url": "http://h:99999/"}, ("url",), "not a valid URL"),
        ({"url": "http://[::1"}, ("url",), "not a valid URL"),
        ({"url": "http://h/a b"}, ("url",), "space"),
        ({"url": "http://h", "urls": ["http://g"]}, ("urls",), "next to url"),
        ({"urls": ["http://h", "nope"]}, ("urls", 1), "http"),
        ({"url": "http://h", "args": ["x"]}, ("args",), "remote"),
        ({"url": "http://h", "cwd": "/"}, ("cwd",), "remote"),
        ({"command": "x", "headers": {"A": "b"}}, ("headers",), "local"),
        ({"url": "http://h", "headers": {"A B": "c"}}, ("headers", "A B", "[key]"), "header name"),
        ({"url": "http://h", "headers": {"A": "b\r\nC: d"}}, ("headers", "A"), "line break"),
        ({"command": "x", "env": {"A=B": "c"}}, ("env", "A=B", "[key]"), "environment variable"),
        ({"command": "x", "timeout": 0}, ("timeout",), "greater than 0"),
        ({"command": "x", "timeout": "soon"}, ("timeout",), "duration"),
        ({"command": "x", "max_message": "12"}, ("max_message",), "1024"),
        ({"command": "x", "concurrency": 0}, ("concurrency",), "1"),
        ({"command": "x", "concurrency": True}, ("concurrency",), "number"),
        ({"command": "x", "naming": "{server}"}, ("naming",), "{tool}"),
        ({"command": "x", "session": "mine"}, ("session",), "'shared'"),
        ({"command": "x", "type": "ws"}, ("type",), "'stdio'"),
        ({"command": "x", "typo": 1}, ("typo",), "not permitted"),
    ],
)
def test_members_that_do_not_fit_are_refused_where_they_stand(
    data: dict[str, Any], place: tuple[str | int, ...], words: str
) -> None:
    found = faults(UpstreamConfig, data)
    assert list(found) == [place]
    assert words in found[place]


def test_rules_speak_even_when_types_are_wrong_too() -> None:
    found = faults(UpstreamConfig, {"timeout": [], "env": {"": "x"}, "url": "nope"})
    assert set(found) == {("timeout",), ("env", "", "[key]"), ("url",)}


def test_faults_of_all_parts_come_together() -> None:
    found = faults(
        Config,
        {
            "server": {"port": 99999},
            "upstreams": {"a": {"timeout": "x"}, "b": {"command": "b"}},
            "agents": {"one": {"servers": ["b", "c"]}, "two": {"names": "x"}},
        },
    )
    assert set(found) == {
        ("server", "port"),
        ("upstreams", "a", "timeout"),
        ("upstreams", "a", "command"),
        ("agents", "one", "servers", 1),
        ("agents", "two", "names"),
    }


@pytest.mark.parametrize("name", ["files", "My Server", "web.search", "日本", "a" * 100, "-", "1"])
def test_upstream_names_of_the_clients_files_are_taken(name: str) -> None:
    assert name in Config(upstreams={name: UpstreamConfig(command="x")}).upstreams


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x00", "a" * 101])
def test_upstream_names_nobody_can_read_are_refused(name: str) -> None:
    assert ("upstreams", name, "[key]") in faults(Config, {"upstreams": {name: {"command": "x"}}})


@pytest.mark.parametrize(
    ("name", "good"), [("coder", True), ("a-b_C1", True), ("a b", False), ("a/b", False), ("", False)]
)
def test_agent_names_are_safe_in_urls(name: str, *, good: bool) -> None:
    if good:
        assert name in Config(agents={name: AgentConfig()}).agents
    else:
        assert faults(Config, {"agents": {name: {}}}) == {("agents", name, "[key]"): "is not a name for an agent"}


def test_an_agent_may_name_its_servers_by_glob() -> None:
    upstreams = {"web-a": UpstreamConfig(command="x"), "web-b": UpstreamConfig(command="x")}
    config = Config(upstreams=upstreams, agents={"one": AgentConfig(servers=("web-*",)), "all": AgentConfig()})
    assert config.agents["one"].servers == ("web-*",)


def test_an_agent_may_not_name_a_server_that_is_not_there() -> None:
    found = faults(Config, {"upstreams": {"web": {"command": "x"}}, "agents": {"one": {"servers": ["wep", "db*"]}}})
    assert set(found) == {("agents", "one", "servers", 0), ("agents", "one", "servers", 1)}


def test_an_agent_which_sees_everything_needs_no_server() -> None:
    assert Config(agents={"one": AgentConfig()}).agents["one"].servers == ("*",)


@pytest.mark.parametrize("pattern", ["{tool}", "mcp_{server}_{tool}", "{server}-{tool}", "{server}.{tool}"])
def test_naming_patterns_place_the_tool(pattern: str) -> None:
    assert NamingConfig(pattern=pattern).pattern == pattern


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "{tool}"),
        ("{server}", "{tool}"),
        ("{tool}_{user}", "{user}"),
        ("{tool}{}", "placeholder"),
        ("{tool", "brace"),
        ("{tool:>5}", "format"),
        ("{tool!r}", "format"),
        ("{tool}{{", "clients refuse"),
        ("my {tool}", "clients refuse"),
    ],
)
def test_naming_patterns_that_cannot_work_are_refused(pattern: str, words: str) -> None:
    assert words in faults(NamingConfig, {"pattern": pattern})[("pattern",)]


def test_a_plain_list_of_globs_is_what_is_allowed() -> None:
    assert UpstreamConfig.model_validate({"command": "x", "tools": ["a*"]}).tools == Filter(allow=("a*",))


def test_log_levels_may_be_shouted_and_shortened() -> None:
    assert LogConfig.model_validate({"level": "WARN"}).level is LogLevel.WARNING


@pytest.mark.parametrize("path", ["mcp", "", "/a?b", "/a b"])
def test_what_is_no_url_path_is_refused(path: str) -> None:
    assert "URL path" in faults(ServerConfig, {"path": path})[("path",)]


def test_secrets_do_not_show() -> None:
    upstream = UpstreamConfig(url="http://h", headers={"Authorization": SecretStr("Bearer s3cret")})
    assert "s3cret" not in repr(upstream) + str(upstream) + upstream.model_dump_json()
    assert upstream.headers["Authorization"].get_secret_value() == "Bearer s3cret"


def test_the_text_of_an_error_repeats_no_input() -> None:
    with pytest.raises(ValidationError) as caught:
        UpstreamConfig.model_validate({"url": "http://h", "headers": {"A": {"s3cret": 1}}, "timeout": "s3cret"})
    assert "s3cret" not in str(caught.value)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().server.port = 1


def test_equal_files_make_equal_configurations() -> None:
    data = {"upstreams": {"a": {"command": "x", "env": {"K": "v"}}}}
    assert Config.model_validate(data) == Config.model_validate(data)
    assert Config.model_validate(data) != Config.model_validate(
        {"upstreams": {"a": {"command": "x", "env": {"K": "w"}}}}
    )
