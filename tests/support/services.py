"""Services and backchannels that do what a test tells them."""

import asyncio
from collections.abc import Iterable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from proxy.model import Backchannel, Call, Caller, Json, Params, Reply
from proxy.service.base import Service

OK = Reply.of({"content": [{"type": "text", "text": "ok"}]})
TOOL_ERROR = Reply.of({"content": [], "isError": True})
INPUT_REQUIRED = Reply.of({"resultType": "input_required"})


def make_call(
    target: str = "search",
    *,
    safe: bool = False,
    back: Backchannel | None = None,
    session: str | None = "s1",
    params: dict[str, Any] | None = None,
) -> Call:
    """A tool call; unsafe unless it is said to be safe."""
    body = {"name": target, "arguments": {}} if params is None else params
    return Call("up", "tools/call", body, target, Caller(session=session), back, safe)


class Scripted:
    """Answers each call with the next step: a reply, or an error to raise. The last step repeats."""

    def __init__(self, *steps: Reply | BaseException) -> None:
        self._steps = steps or (OK,)
        self.calls: list[Call] = []

    async def __call__(self, call: Call, /) -> Reply:
        step = self._steps[min(len(self.calls), len(self._steps) - 1)]
        self.calls.append(call)
        if isinstance(step, BaseException):
            raise step
        return step


class Held:
    """Holds every call until the test answers it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.cancelled: list[Call] = []
        self._open: dict[int, asyncio.Future[Reply]] = {}

    @property
    def running(self) -> list[int]:
        """The calls that wait for an answer, by the order of their arrival."""
        return [number for number, future in self._open.items() if not future.done()]

    async def __call__(self, call: Call, /) -> Reply:
        number = len(self.calls)
        self.calls.append(call)
        self._open[number] = asyncio.get_running_loop().create_future()
        try:
            return await self._open[number]
        except asyncio.CancelledError:
            self.cancelled.append(call)
            raise
        finally:
            del self._open[number]

    def answer(self, number: int = 0, reply: Reply = OK) -> None:
        self._open[number].set_result(reply)

    def fail(self, number: int, error: Exception) -> None:
        self._open[number].set_exception(error)


class Ear:
    """A backchannel that remembers what it hears, and holds questions until the test answers them."""

    def __init__(self, token: str | None = None, answers: Iterable[Json] = ()) -> None:
        self._token = token
        self._answers = list(answers)
        self.heard: list[tuple[str, Params | None]] = []
        self.questions: list[str] = []
        self.thinking: asyncio.Future[Json] | None = None

    @property
    def progress_token(self) -> str | int | None:
        return self._token

    async def notify(self, method: str, params: Params | None) -> None:
        self.heard.append((method, params))

    async def ask(self, method: str, params: Params | None) -> Json:
        self.questions.append(method if params is None else f"{method} {params}")
        if self._answers:
            return self._answers.pop(0)
        self.thinking = asyncio.get_running_loop().create_future()
        return await self.thinking


class Running:
    """A call in a task of its own: how it ended, and a way to cancel it."""

    def __init__(self, tasks: TaskGroup, service: Service, call: Call | None = None) -> None:
        self.reply: Reply | None = None
        self.error: Exception | None = None
        self.cancelled = False
        self._service = service
        self._call = call or make_call()
        self._scope = anyio.CancelScope()
        tasks.start_soon(self._run)

    @property
    def done(self) -> bool:
        return self.reply is not None or self.error is not None or self.cancelled

    def cancel(self) -> None:
        self._scope.cancel()

    async def _run(self) -> None:
        with self._scope:
            try:
                self.reply = await self._service(self._call)
            except Exception as error:  # noqa: BLE001  the test looks at it
                self.error = error
        self.cancelled = self._scope.cancelled_caught
