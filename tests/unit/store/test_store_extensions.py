"""Middleware and tool handlers: order, choice, faults, and those that packages bring."""

import sys
from importlib.metadata import DistributionFinder
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import ConfigError, ExtensionFault, Lost
from proxy.model import Call, Reply
from proxy.service.base import Service, stack
from proxy.store.extensions import Middleware, installed_layers, layers_of

CALL = Call("files", "tools/call", {"name": "read"}, "read")


async def tower(call: Call, /) -> Reply:
    return Reply.of({"trace": ["tower"], "target": call.target})


def marking(mark: str) -> Middleware:
    async def middleware(call: Call, call_next: Service) -> Reply:
        reply = await call_next(call)
        return Reply.of({**reply.result, "trace": [mark, *reply.result["trace"]]})

    return middleware


async def own_answer(_call: Call, _next: Service) -> Reply:
    return Reply.of({"trace": ["handler"]})


async def broken(_call: Call, _next: Service) -> Reply:
    raise KeyError("secret")


async def lost(_call: Call, _next: Service) -> Reply:
    raise Lost("gone")


async def ask(middleware: list[Middleware], handlers: dict[str, Middleware] | None = None, call: Call = CALL) -> Any:
    return (await stack(*layers_of(middleware, handlers))(tower)(call)).result


async def test_the_first_middleware_is_the_outermost_and_handlers_are_inside() -> None:
    found = await ask([marking("a"), marking("b")], {"files.read": marking("h")})
    assert found["trace"] == ["a", "b", "h", "tower"]


async def test_a_handler_answers_in_place_of_the_upstream_for_the_tools_that_its_glob_fits() -> None:
    handlers = {"files.r*": own_answer, "*": marking("any")}
    assert (await ask([], handlers))["trace"] == ["handler"]
    other = Call("files", "tools/call", {"name": "write"}, "write")
    assert (await ask([], handlers, other))["trace"] == ["any", "tower"]
    read = Call("files", "resources/read", {"uri": "x:y"}, "read")
    assert (await ask([], handlers, read))["trace"] == ["tower"]


async def test_a_fault_of_an_extension_names_it_and_keeps_its_words_to_the_log() -> None:
    with pytest.raises(ExtensionFault, match="broken") as caught:
        await ask([broken])
    assert "secret" not in caught.value.text()


async def test_errors_of_manifold_pass() -> None:
    with pytest.raises(Lost):
        await ask([lost])


def package(folder: Path, points: str, code: str) -> None:
    """An installed package that brings extensions."""
    (folder / "plugin_of_a_test.py").write_text(code)
    info = folder / "plugin_of_a_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-a-test\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


PLUGIN = """
async def audit(call, call_next):
    reply = await call_next(call)
    return type(reply).of({**reply.result, "trace": ["audit", *reply.result["trace"]]})

async def local(call, call_next):
    reply = await call_next(call)
    return type(reply).of({**reply.result, "trace": ["local", *reply.result["trace"]]})
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "plugin_of_a_test", raising=False)
    DistributionFinder.Context()
    return tmp_path


async def test_installed_packages_bring_middleware_and_handlers(plugins: Path) -> None:
    package(
        plugins,
        "[mcp_manifold.middleware]\naudit = plugin_of_a_test:audit\n"
        "[mcp_manifold.tool_handlers]\nfiles.* = plugin_of_a_test:local\n",
        PLUGIN,
    )
    found = (await stack(*installed_layers())(tower)(CALL)).result
    assert found["trace"] == ["audit", "local", "tower"]


@pytest.mark.parametrize("value", ["plugin_of_a_test:missing", "not_there:audit", "plugin_of_a_test:__doc__"])
def test_a_package_whose_extension_cannot_be_loaded_stops_the_start_and_is_named(plugins: Path, value: str) -> None:
    package(plugins, f"[mcp_manifold.middleware]\naudit = {value}\n", PLUGIN)
    with pytest.raises(ConfigError, match=r"mcp_manifold\.middleware: audit"):
        installed_layers()
