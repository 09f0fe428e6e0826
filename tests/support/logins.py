"""Logging in to a guarded server in a test's own process, and a Manifold with such logins."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec

from proxy.config.model import UpstreamConfig
from proxy.credentials.grant import Grant
from proxy.credentials.login import Ways, log_in
from proxy.credentials.vault import FOLDER, Slot, Vault
from proxy.credentials.wallet import auth_of, slot_of
from proxy.model import Caller, Principal, UpstreamState
from proxy.router import Request
from tests.support.authority import Guarded, visit
from tests.support.running import Running, running

BACK = "http://127.0.0.1:1/callback"
NAME = "up"


def slot(upstream: Guarded, whose: str = "") -> Slot:
    """Where a login to the server is kept."""
    return slot_of(NAME, UpstreamConfig.model_validate(upstream.config()), whose)


def vault(state: Path) -> Vault:
    """Where the logins of a state directory are."""
    return Vault(state / FOLDER)


async def logged_in(upstream: Guarded, state: Path, *, whose: str = "", **more: Any) -> Grant:
    """Log in as a person would."""
    config = UpstreamConfig.model_validate(upstream.config(**more))
    auth = auth_of(config, whose)
    assert auth is not None
    with anyio.fail_after(20):
        return await log_in(slot_of(NAME, config, whose), auth, vault(state), Ways(BACK, visit))


def ends_in(state: Path, at: Slot, seconds: float) -> None:
    """Let a kept token end in so many seconds, most of its life being over."""
    entry = vault(state).load(at)
    assert entry is not None
    assert entry.grant is not None
    now = time.time()
    grant = msgspec.structs.replace(entry.grant, expires_at=now + seconds, obtained_at=now - 1000)
    vault(state).save(at, msgspec.structs.replace(entry, grant=grant))


@asynccontextmanager
async def served(upstream: Guarded, state: Path | None, **more: Any) -> AsyncIterator[Running]:
    """Manifold with that upstream, ready."""
    async with running({NAME: upstream.config(**more)}, state) as manifold:
        await manifold.status(NAME, UpstreamState.READY)
        yield manifold


async def call_as(manifold: Running, tool: str = "whoami", **caller: Any) -> Any:
    """Call a tool as somebody; what it told."""
    principal = caller.pop("principal", None)
    who = Caller(**caller) if principal is None else Caller(principal=Principal(principal), **caller)
    request = Request("tools/call", {"name": f"mcp_{NAME}_{tool}", "arguments": {}}, who)
    with anyio.fail_after(20):
        routed = await manifold.runtime.router.route(request)
        result = (await manifold.runtime.router.send(routed)).result
    return result["structuredContent"]
