"""What the embedding program answers when an upstream asks: elicitation, sampling, roots; and what it wants to hear."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import structlog

from proxy.agents import rewrite
from proxy.agents.view import View
from proxy.bridge.questions import ELICIT, ROOTS, SAMPLE, usable
from proxy.errors import INTERNAL_ERROR, METHOD_NOT_FOUND, ManifoldError, Rejected
from proxy.model import Json, Params, Sent
from proxy.store.patience import bounded
from proxy.upstream.session import LEVELS

log = structlog.get_logger(__name__)

Answer = Callable[[Params], Awaitable[Mapping[str, Any]]]
"""Answers a question: its params in, the result that MCP defines out."""
Ear = Callable[[Params], None]

_PROGRESS: Final = "notifications/progress"
_LOG: Final = "notifications/message"


@dataclass(frozen=True)
class Handlers:
    """The answers of a program. Upstreams are told of exactly those capabilities for which there is a handler."""

    elicitation: Answer | None = None
    """Answers ``elicitation/create``: ``{"action": "accept", "content": {...}}``, or ``decline``, or ``cancel``."""
    elicitation_modes: Sequence[str] = ("form",)
    """The modes that the handler knows: ``form``, ``url``. It accepts a ``url`` when the person is through with the
    page: a call that waited for it is then sent again."""
    sampling: Answer | None = None
    """Answers ``sampling/createMessage``: ``{"role": "assistant", "content": {...}, "model": "..."}``."""
    sampling_tools: bool = False
    """Whether it knows sampling with tools."""
    roots: Sequence[str] | Callable[[], Sequence[str]] | None = None
    """The ``file://`` URIs in which upstreams may work, or what gives them."""
    progress: Ear | None = None
    """Hears of the progress of calls: ``progress``, ``total``, ``message``."""
    log: Ear | None = None
    """Hears what upstreams log during calls: ``level``, ``logger``, ``data``."""
    log_level: str = "info"
    """The least severe level to hear of."""

    def __post_init__(self) -> None:
        if self.log_level not in LEVELS:
            raise ValueError(f"log_level must be one of {', '.join(LEVELS)}, not {self.log_level!r}")

    @cached_property
    def capabilities(self) -> dict[str, Any]:
        """The client capabilities that these handlers amount to."""
        declared: dict[str, Any] = {}
        if self.elicitation is not None:
            declared["elicitation"] = {mode: {} for mode in self.elicitation_modes}
        if self.sampling is not None:
            declared["sampling"] = {"tools": {}} if self.sampling_tools else {}
        if self.roots is not None:
            declared["roots"] = {}
        return declared

    async def answer(self, method: str, params: Params | None) -> Json:
        """Answer a question.

        Raises:
            Rejected: there is no handler for it, it failed, or it gave no usable answer.
        """
        try:
            given = await self._given(method, params or {})
        except ManifoldError:
            raise
        except Exception as error:
            log.exception("handler.failed", method=method)
            raise Rejected(INTERNAL_ERROR, f"{method}: the program's handler failed") from error
        if not usable(method, given):
            log.error("handler.unusable_answer", method=method)
            raise Rejected(INTERNAL_ERROR, f"{method}: the program's handler gave no usable answer")
        return given

    async def _given(self, method: str, params: Params) -> Json:
        if method == ELICIT and self.elicitation is not None:
            return await self.elicitation(params)
        if method == SAMPLE and self.sampling is not None:
            return await self.sampling(params)
        if method == ROOTS and self.roots is not None:
            roots = self.roots() if callable(self.roots) else self.roots
            return {"roots": [{"uri": uri} for uri in roots]}
        raise Rejected(METHOD_NOT_FOUND, f"{method}: this program has no handler for it")


class Asked:
    """The way back from an upstream to the program, for one call.

    Args:
        handlers: the program's answers.
        view: who sees URIs on the way back; set with ``upstream`` once the call is routed.
    """

    __slots__ = ("_handlers", "upstream", "view")

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self.view: View | None = None
        self.upstream = ""

    @property
    def progress_token(self) -> str | int | None:
        """Any token if somebody listens: the link gives the request one of its own."""
        return "call" if self._handlers.progress is not None else None

    async def notify(self, method: str, params: Params | None) -> None:
        """Tell the program; its fault is its own."""
        ear = {_PROGRESS: self._handlers.progress, _LOG: self._handlers.log}.get(method)
        if ear is None or (method == _LOG and not self._wants(params)):
            return
        try:
            ear(self._mapped(method, params) or {})
        except Exception:
            log.exception("handler.failed", method=method)

    async def ask(self, method: str, params: Params | None) -> Json:
        """Put a question to the program.

        Raises:
            Rejected: it has no answer.
            DeadlineExceeded: it took longer than the whole call may.
        """
        with bounded(f"{method}: answering", sent=Sent.MAYBE):
            return await self._handlers.answer(method, self._mapped(method, params))

    def _mapped(self, method: str, params: Params | None) -> Params | None:
        return params if self.view is None else rewrite.incoming(self.view, self.upstream, method, params)

    def _wants(self, params: Params | None) -> bool:
        level = (params or {}).get("level")
        return level not in LEVELS or LEVELS.index(level) >= LEVELS.index(self._handlers.log_level)
