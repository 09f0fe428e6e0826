"""The two ends which a link talks to on our side, for tests."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel

from proxy.errors import Rejected
from proxy.model import Backchannel, Json, Params

Said = tuple[str, Params | None]
Answer = Callable[[str, Params | None], Awaitable[Json]]


async def refuse(method: str, params: Params | None) -> Json:
    del params
    raise Rejected(-32601, f"no {method} here", {"method": method})


class Heard:
    """An ``Incoming``: notes what an upstream says."""

    def __init__(self, answer: Answer = refuse) -> None:
        self.said: deque[Said] = deque()
        self.owners: dict[str, Backchannel] = {}
        self._more = anyio.Event()
        self._answer = answer

    def owner(self, method: str) -> Backchannel | None:
        return self.owners.get(method)

    def notification(self, method: str, params: Params | None) -> None:
        self.said.append((method, params))
        self._more.set()

    async def request(self, method: str, params: Params | None) -> Json:
        return await self._answer(method, params)

    async def next(self) -> Said:
        with anyio.fail_after(10):
            while not self.said:
                self._more = anyio.Event()
                await self._more.wait()
        return self.said.popleft()


class Back:
    """A ``Backchannel``: notes what belongs to one call."""

    def __init__(self, progress_token: str | int | None = None, answer: Answer = refuse) -> None:
        self.progress_token = progress_token
        self.said: list[Said] = []
        self.heard = anyio.Event()
        self._answer = answer

    async def notify(self, method: str, params: Params | None) -> None:
        await anyio.lowlevel.checkpoint()
        self.said.append((method, params))
        self.heard.set()

    async def ask(self, method: str, params: Params | None) -> Any:
        return await self._answer(method, params)
