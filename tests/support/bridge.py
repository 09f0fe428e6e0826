"""A downstream for bridge tests: remembers what it was told, and answers from a list."""

from collections.abc import Callable
from typing import Any

from proxy.model import Json, Params

Answer = Callable[[str, Params | None], Json]


class Downstream:
    """A back channel."""

    def __init__(self, answer: Answer | None = None, progress_token: str | int | None = None) -> None:
        self._answer = answer or (lambda _method, _params: {})
        self.progress_token = progress_token
        self.told: list[tuple[str, Any]] = []
        self.asked: list[tuple[str, Any]] = []

    async def notify(self, method: str, params: Params | None) -> None:
        self.told.append((method, params))

    async def ask(self, method: str, params: Params | None) -> Json:
        self.asked.append((method, params))
        return self._answer(method, params)
