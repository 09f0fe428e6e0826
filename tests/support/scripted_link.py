"""A link to nobody: it answers as a test says, and notes what it was asked."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from proxy.model import Backchannel, Params, Reply

Answer = Callable[[str, Params], Awaitable[Any]]


@dataclass
class ScriptedLink:
    """A ``Link``. ``attributes`` as on HTTP by default; False is a pipe."""

    answer: Answer
    attributes: bool = True
    asked: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str] | None] = field(default_factory=list)
    closed: str | None = None

    async def request(
        self,
        method: str,
        params: Params | None,
        *,
        back: Backchannel | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        del back
        self.asked.append(method)
        self.headers.append(headers)
        return Reply.of(await self.answer(method, params or {}))

    async def notify(self, method: str, params: Params | None, *, headers: Mapping[str, str] | None = None) -> None:
        del params, headers
        await anyio.lowlevel.checkpoint()
        self.noted.append(method)

    def agree(self, version: str) -> None:
        pass

    def listen(self) -> None:
        pass

    async def wait_closed(self) -> str:
        await anyio.sleep_forever()
        raise AssertionError
