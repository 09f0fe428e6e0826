"""The crossings of eras and transports in which everything is tried."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conformance.scripts import FULL
from tests.conformance.stage import (
    Cast,
    Stage,
    configured,
    fixture_command,
    manifold_command,
    staged,
    upstream_of,
)
from tests.conformance.wire import HANDSHAKE, MODERN, Client, over_http, over_stdio

VERSIONS: Final = {"L": HANDSHAKE, "M": MODERN}
ERAS: Final = {"L": "legacy", "M": "modern"}


@dataclass(frozen=True)
class Cell:
    """A downstream of one era and transport, an upstream of another."""

    downstream: str
    """``L`` for the handshake era, ``M`` for the modern one."""
    upstream: str
    door: str
    """``http`` or ``stdio``."""
    link: str
    express: bool = True
    """Whether the express lane is on."""
    prefixed: bool = False
    """Whether names are prefixed, with a decoy of the same names, and the shim takes that out again."""

    @property
    def crossing(self) -> str:
        """As the table of features names it: ``L→L`` and so on."""
        return f"{self.downstream}→{self.upstream}"

    @property
    def id(self) -> str:
        """In the ids of tests: ``LM-http-stdio`` is a handshake client over HTTP, a modern upstream on a pipe."""
        about = f"{'-prefixed' if self.prefixed else ''}{'' if self.express else '-no-lane'}"
        return f"{self.downstream}{self.upstream}-{self.door}-{self.link}{about}"


CELLS: Final = tuple(
    Cell(downstream, upstream, door, link)
    for door in ("http", "stdio")
    for link in ("http", "stdio")
    for upstream in "LM"
    for downstream in "LM"
)

PREFIXED: Final = tuple(
    Cell(downstream, upstream, "http", "http", prefixed=True) for upstream in "LM" for downstream in "LM"
)
"""The same under other names; over HTTP, for that is where the shim stands."""


NO_LANE: Final = tuple(
    Cell(downstream, upstream, "stdio", "stdio", express=False) for upstream in "LM" for downstream in "LM"
)
"""The same without the express lane, on a pipe; where it serves nothing, all links are alike."""


def every(*, only: Callable[[Cell], bool] = lambda _cell: True) -> pytest.MarkDecorator:
    """Run a test in every cell, or in every one where what it says can happen."""
    return pytest.mark.parametrize(
        "theatre", [cell for cell in CELLS if only(cell)], ids=lambda cell: cell.id, indirect=True
    )


class Theatre:
    """One cell, running: clients connect to Manifold, as many as wanted."""

    def __init__(self, cell: Cell, folder: Path, url: str, config: Path) -> None:
        self.cell = cell
        self._folder = folder
        self._url = url
        self._config = config

    def client(
        self, capabilities: dict[str, Any] | None = None, version: str = ""
    ) -> AbstractAsyncContextManager[Client]:
        """A client of the cell's era and transport; on a pipe it gets a Manifold of its own."""
        version = version or VERSIONS[self.cell.downstream]
        if self.cell.door == "http":
            return over_http(self._url, version=version, capabilities=capabilities)
        env = {"XDG_STATE_HOME": str(self._folder / "state")}
        return over_stdio(
            manifold_command(self._config, "--stdio"), version=version, capabilities=capabilities, env=env
        )


@asynccontextmanager
async def opened(cell: Cell, folder: Path) -> AsyncIterator[Theatre]:
    """Start what a cell needs."""
    cast = Cast(ERAS[cell.upstream], cell.link, prefixed=cell.prefixed)
    with ExitStack() as stack:
        if cell.door == "http":
            stage: Stage = stack.enter_context(staged(folder, cast))
            yield Theatre(cell, folder, stage.url, stage.config)
        else:
            upstream, _ = stack.enter_context(upstream_of(folder, "everything", cast))
            yield Theatre(cell, folder, "", configured(folder, {"everything": upstream}, express=cell.express))


def direct(downstream: str, door: str, url: str) -> AbstractAsyncContextManager[Client]:
    """A client of the fixture itself, in the era of the downstream."""
    if door == "http":
        return over_http(url, version=VERSIONS[downstream], capabilities=FULL)
    command = fixture_command("--stdio", "--era", ERAS[downstream])
    return over_stdio(command, version=VERSIONS[downstream], capabilities=FULL)


__all__ = ["CELLS", "NO_LANE", "PREFIXED", "Cell", "Theatre", "direct", "every", "opened"]
