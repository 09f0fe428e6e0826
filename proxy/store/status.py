"""How an upstream stands, and whether it can be reached, for programs and people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.config.model import UpstreamConfig
from proxy.errors import ManifoldError
from proxy.model import UpstreamState
from proxy.upstream.kinds import AnyUpstream
from proxy.upstream.probe import Probe

_MILLI: Final = 1000


@dataclass(frozen=True, slots=True)
class Status:
    """One upstream at a moment."""

    name: str
    state: UpstreamState
    reason: str
    """Why it is in that state."""
    transport: str
    era: str = ""
    """The era it speaks; empty while unknown."""
    version: str = ""
    """The protocol revision it speaks; empty while unknown."""
    tools: int = 0
    """How many tools it lists, hidden ones included."""
    sessions: int = 0
    """How many sessions are open with it."""
    error: ManifoldError | None = None
    """Why the last attempt to reach it failed; None while connected."""

    @property
    def connected(self) -> bool:
        """Whether calls go through."""
        return self.state in (UpstreamState.READY, UpstreamState.DEGRADED)


@dataclass(frozen=True, slots=True)
class ConnectionTest:
    """What ``test_connection`` found. False if the upstream cannot be used."""

    success: bool
    message: str
    """What it offers, or what is wrong and what to do."""
    milliseconds: float
    tool_count: int = 0
    tools: Sequence[str] = ()
    """The tools' own names."""
    error_type: str = ""
    """The stable code of the error, as in docs/errors.md; empty if there is none."""

    def __bool__(self) -> bool:
        return self.success


def status_of(upstream: AnyUpstream) -> Status:
    """How an upstream stands that is switched on."""
    listing = upstream.listing
    return Status(
        name=upstream.name,
        state=upstream.state,
        reason=upstream.reason,
        transport=upstream.config.type.value,
        era=upstream.era.value if upstream.era is not None else "",
        version=listing.version if listing is not None else "",
        tools=len(listing.tools) if listing is not None else 0,
        sessions=upstream.sessions,
        error=upstream.error,
    )


def status_off(name: str, config: UpstreamConfig) -> Status:
    """How an upstream stands that is registered and not connected."""
    return Status(name, UpstreamState.STOPPED, "disconnected", config.type.value)


def test_of(probe: Probe) -> ConnectionTest:
    """What an attempt says."""
    milliseconds = round(probe.seconds * _MILLI, 3)
    if probe.listing is None:
        error = probe.error or ManifoldError("It could not be reached.")
        return ConnectionTest(False, error.text(), milliseconds, error_type=error.code)
    names = tuple(str(tool.get("name", "")) for tool in probe.listing.tools)
    message = f"{len(names)} {'tool' if len(names) == 1 else 'tools'} ({probe.listing.version})"
    return ConnectionTest(True, message, milliseconds, len(names), names)
