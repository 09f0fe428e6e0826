"""Asking a runtime once, without a door: for ``list``, ``call`` and ``explain``."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio

from proxy.cli.options import load_config, state_dir
from proxy.runtime import Runtime
from proxy.store.extensions import installed_layers
from proxy.telemetry import logging

T = TypeVar("T")


def ask(files: list[Path] | None, agent: str | None, question: Callable[[Runtime], Awaitable[T]]) -> T:
    """Run the upstreams of a configuration, put a question to them, and stop them again."""
    logging.configure(level="warning")
    loaded = load_config(files, agent=agent)
    layers = installed_layers()

    async def run() -> T:
        async with Runtime(loaded.config, state=state_dir(loaded.config), layers=layers) as runtime:
            runtime.start()
            await runtime.ready(agent)
            return await question(runtime)

    return anyio.run(run, backend_options={"use_uvloop": sys.platform != "win32"})
