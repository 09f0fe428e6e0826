"""What others add to the path of a call: middleware and tool handlers, by argument or by entry point.

Both are functions ``async (call, call_next) -> Reply`` on the values of ``proxy.model``, before the tower of the
upstream and inside the figures, so they hold at every door.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import structlog

from proxy.errors import ConfigError, ExtensionFault, ManifoldError, Problem
from proxy.model import Call, Reply
from proxy.service.base import Layer, Service

log = structlog.get_logger(__name__)

MIDDLEWARE: Final = "mcp_manifold.middleware"
"""The entry point group of middleware; applied in the order of their names, the first one outermost."""
TOOL_HANDLERS: Final = "mcp_manifold.tool_handlers"
"""The entry point group of tool handlers; the name of the entry point is a glob over ``server.tool``."""

Middleware = Callable[[Call, Service], Awaitable[Reply]]
"""Answers a call: itself, or by ``await call_next(call)``."""


def layers_of(middleware: Iterable[Middleware], tool_handlers: Mapping[str, Middleware] | None = None) -> list[Layer]:
    """Middleware and tool handlers as layers, the outermost first.

    Args:
        middleware: for every request.
        tool_handlers: for calls of tools whose ``server.tool`` fits a glob; of several that fit, the first counts.
    """
    layers = [_layer(one, _name_of(one)) for one in middleware]
    return [*layers, _handling(tool_handlers)] if tool_handlers else layers


def installed_layers() -> list[Layer]:
    """The middleware and tool handlers that installed packages offer.

    Raises:
        ConfigError: one of them cannot be loaded. It is not left out: it may be there for security.
    """
    middleware = [_loaded(point) for point in _points(MIDDLEWARE)]
    return layers_of(middleware, {point.name: _loaded(point) for point in _points(TOOL_HANDLERS)})


def _points(group: str) -> list[EntryPoint]:
    return sorted(entry_points(group=group), key=lambda point: point.name)


def _loaded(point: EntryPoint) -> Middleware:
    try:
        found = point.load()
    except Exception as error:
        package = point.dist.name if point.dist is not None else "the package that brings it"
        message = f"cannot be loaded: {type(error).__name__}: {error}"
        hint = f"repair or uninstall {package}"
        raise ConfigError([Problem(f"{point.group}: {point.name} ({point.value})", message, hint)]) from error
    if not callable(found):
        raise ConfigError([Problem(f"{point.group}: {point.name} ({point.value})", "is not callable")])
    log.info("extension.loaded", group=point.group, name=point.name, value=point.value)
    made: Middleware = found
    return made


def _layer(extension: Middleware, name: str) -> Layer:
    def wrap(service: Service) -> Service:
        async def run(call: Call, /) -> Reply:
            return await _guarded(extension, name, call, service)

        return run

    return wrap


def _handling(handlers: Mapping[str, Middleware]) -> Layer:
    def wrap(service: Service) -> Service:
        async def run(call: Call, /) -> Reply:
            handler = _handler(handlers, call) if call.method == "tools/call" else None
            if handler is None:
                return await service(call)
            return await _guarded(handler, _name_of(handler), call, service)

        return run

    return wrap


def _handler(handlers: Mapping[str, Middleware], call: Call) -> Middleware | None:
    target = f"{call.upstream}.{call.target}"
    return next((handler for glob, handler in handlers.items() if fnmatchcase(target, glob)), None)


async def _guarded(extension: Middleware, name: str, call: Call, service: Service) -> Reply:
    try:
        return await extension(call, service)
    except ManifoldError:
        raise
    except Exception as error:
        log.exception("extension.failed", extension=name, upstream=call.upstream, target=call.target)
        raise ExtensionFault(f"The extension {name!r} failed: {type(error).__name__}.") from error


def _name_of(extension: Middleware) -> str:
    return str(getattr(extension, "__qualname__", type(extension).__qualname__))
