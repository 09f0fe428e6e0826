"""``mcp-manifold check``: provision everything once, serve nothing, say what is wrong."""

import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Annotated

import anyio
from cyclopts import Parameter

from proxy.agents.misfits import misfits
from proxy.cli.options import ConfigFiles, load_config, state_dir
from proxy.cli.pinning import pin_lines
from proxy.cli.report import upstream_lines
from proxy.cli.trying import tried
from proxy.config.diff import running
from proxy.config.model import Config
from proxy.credentials.vault import vault_in
from proxy.errors import ConfigError
from proxy.runtime import Runtime
from proxy.telemetry import logging

Upstream = Annotated[str | None, Parameter(name="--upstream", help="Try only this server: its name, or any URL.")]


def check(*, config: ConfigFiles = None, upstream: Upstream = None) -> int:
    """Check the configuration, connect to every upstream once, and report every problem with its remedy.

    The exit status is 0 when everything is well, 1 when something is not.
    """
    logging.configure(level="error")
    if upstream is not None:
        return tried(upstream, config)
    try:
        loaded = load_config(config)
    except ConfigError as error:
        for problem in error.problems:
            print(f"✗ {problem}")
        print(f"\n{_count(len(error.problems), 'problem')}; nothing was started.")
        return 1
    print(f"● configuration  {', '.join(map(str, loaded.files))}")
    faults = anyio.run(partial(_provision, loaded.config), backend_options={"use_uvloop": sys.platform != "win32"})
    print(f"\n{_count(faults, 'problem') if faults else 'Everything is well.'}")
    return 1 if faults else 0


async def _provision(config: Config) -> int:
    runtime = Runtime(config)
    runtime.registry.vault = vault_in(state_dir(config))
    async with runtime:
        runtime.start()
        async with anyio.create_task_group() as tasks:
            for upstream in runtime.registry:
                upstream.start()
                tasks.start_soon(upstream.settled)
        for line in upstream_lines(runtime.registry, once=True):
            print(line)
        for line in _unset(config):
            print(f"! {line}")
        conflicts = runtime.holder.current.conflicts
        for conflict in conflicts:
            print(f"✗ {conflict}")
        for misfit in misfits(config.agents, runtime.view):
            print(f"! {misfit}")
        for line in await pin_lines(runtime):
            print(line)
        return sum(one.error is not None for one in runtime.registry) + len(conflicts)


def _unset(config: Config) -> Iterator[str]:
    """Variables that children are to inherit, and that are not there."""
    for name, upstream in running(config).items():
        for variable in upstream.inherit_env:
            if variable not in os.environ:
                yield f"mcpServers.{name}.inherit_env: {variable} is not set here, so {name} does not get it"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
