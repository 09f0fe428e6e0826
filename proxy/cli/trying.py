"""``mcp-manifold check --upstream``: try one server, configured or not, and say what it offers or what is wrong."""

import sys
from functools import partial
from pathlib import Path

import anyio

from proxy.cli.options import load_config, state_dir
from proxy.config.model import Config, UpstreamConfig
from proxy.credentials.vault import vault_in
from proxy.errors import ConfigError, UnknownServer
from proxy.store.registration import upstream_config
from proxy.store.status import ConnectionTest, test_of
from proxy.upstream.probe import probe


def tried(target: str, files: list[Path] | None) -> int:
    """Try a server on a connection of its own and print how that went.

    Args:
        target: the name of a configured server, or a URL.
        files: the configuration files; found where they usually are when none are named.
    """
    try:
        config = Config() if "://" in target and not files else load_config(files).config
        server = _server(config, target)
    except (ConfigError, UnknownServer) as error:
        print(f"✗ {error.text()}")
        return 1
    run = partial(_tried, target, server, config)
    found = anyio.run(run, backend_options={"use_uvloop": sys.platform != "win32"})
    if not found:
        print(f"✗ {target}  {found.message} ({found.error_type}, {found.milliseconds:.0f} ms)")
        return 1
    print(f"● {target}  {found.message}, {found.milliseconds:.0f} ms")
    for tool in found.tools:
        print(f"  {tool}")
    return 0


def _server(config: Config, target: str) -> UpstreamConfig:
    if target in config.upstreams:
        return config.upstreams[target]
    if "://" in target:
        return upstream_config("test", target)
    known = ", ".join(sorted(config.upstreams)[:8]) or "none"
    raise UnknownServer(f"There is no upstream {target!r} (known: {known}).", name=target)


async def _tried(name: str, server: UpstreamConfig, config: Config) -> ConnectionTest:
    return test_of(await probe(name, server, vault=vault_in(state_dir(config))))
