"""Clock: a small MCP server that tells the time, converts it, and counts down.

Start it with ``python -m proxy.demo.clock`` (stdio) or ``--http PORT``.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

import anyio
from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from proxy import __version__
from proxy.demo.serving import run

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)

Zone = Annotated[str, Field(description="An IANA time zone, for example Europe/Paris")]


class Moment(BaseModel):
    """A point in time as the people of one time zone write it."""

    time: str = Field(description="ISO 8601, with the offset from UTC")
    timezone: str
    weekday: str


def build(now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> FastMCP:
    """A clock server; ``now`` returns the present moment, with a time zone."""
    server = FastMCP(
        "clock", version=__version__, instructions="Tells and converts times, and counts down with progress."
    )
    _add_times(server, now)
    _add_countdown(server)
    return server


def _add_times(server: FastMCP, now: Callable[[], datetime]) -> None:
    @server.tool(annotations=READS)
    def now_in(timezone: Zone = "UTC") -> Moment:
        """Tell the present time in a time zone."""
        return _moment(now(), timezone)

    @server.tool(annotations=READS)
    def convert(
        time: Annotated[str, Field(description="ISO 8601, for example 2026-11-21T14:30")],
        from_timezone: Zone,
        to_timezone: Zone,
    ) -> Moment:
        """Convert a local time from one time zone to another."""
        return _moment(_parse(time, from_timezone), to_timezone)

    @server.resource("clock://timezones", name="timezones", mime_type="application/json")
    def timezones() -> list[str]:
        """The names of all time zones that this server knows."""
        return sorted(available_timezones())


def _add_countdown(server: FastMCP) -> None:
    @server.tool(annotations=READS)
    async def countdown(
        context: Context,
        steps: Annotated[int, Field(ge=1, le=100, description="From which number to count down")] = 3,
        interval: Annotated[float, Field(ge=0, le=10, description="Seconds between two numbers")] = 1.0,
    ) -> str:
        """Count down to zero and report progress at every step."""
        for done in range(steps):
            await context.report_progress(done, steps, f"{steps - done}")
            await anyio.sleep(interval)
        await context.report_progress(steps, steps, "0")
        return f"Counted down from {steps}."


def _parse(time: str, timezone: str) -> datetime:
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError:
        raise ToolError(f"{time!r} is not an ISO 8601 time such as 2026-11-21T14:30.") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=_zone(timezone))


def _moment(at: datetime, timezone: str) -> Moment:
    local = at.astimezone(_zone(timezone))
    return Moment(time=local.isoformat(timespec="seconds"), timezone=timezone, weekday=local.strftime("%A"))


def _zone(name: str) -> ZoneInfo:
    if name not in available_timezones():
        raise ToolError(f"There is no time zone {name!r}. The resource clock://timezones lists them.")
    return ZoneInfo(name)


if __name__ == "__main__":
    run(build)
