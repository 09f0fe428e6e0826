"""The audit log: who called what, where, when and how it ended; who was refused; what was administered.

One line is one JSON object. A ``call`` is written when it has ended, whichever door it came through: this is the
outermost layer around all towers. A ``refusal`` is written where a request leads nowhere or its sender may not come
in. An ``act`` is written by whoever does it. Results are never written.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from proxy.bridge.drive import asks, may_ask
from proxy.config.audit import STANDARD, ArgumentsKept, AuditConfig, OnFailure
from proxy.errors import ConfigError, ManifoldError, Problem, Unavailable, UpstreamError
from proxy.model import ANONYMOUS, Call, Caller, Principal, Reply, Sent
from proxy.router import Request
from proxy.service.access import AccessLog
from proxy.service.base import Layer, Service
from proxy.service.observe import Observation, Observe, Outcome
from proxy.telemetry.audit import Line, any_of, client_name, encode, now, redacted, short
from proxy.telemetry.journal import AppendedFile, Journal, Out, Rotation, Stream

_LONGEST: Final = 400
"""Characters of a name or URI that are written."""
_ASKED: Final = "asked"
"""The outcome of a round that brought a question of the upstream's; the next one has the same ``exchange``."""


class Auditor:
    """The audit log of one Manifold, as a context manager. Outside of it, or without a configured one, nothing happens.

    Args:
        settings: where to, and what of a call.
    """

    def __init__(self, settings: AuditConfig) -> None:
        self._settings = settings
        self._method = any_of(settings.methods)
        self._secret = any_of(one.lower() for one in settings.redact)
        self.journal: Journal | None = None

    def __enter__(self) -> Self:
        """Open it.

        Raises:
            ConfigError: it cannot be written.
        """
        if self._settings.to is not None:
            self.journal = Journal(_out(self._settings), self._settings.queue, _lost)
        return self

    def __exit__(self, *_error: object) -> None:
        """Write what is left, and end."""
        journal, self.journal = self.journal, None
        if journal is not None:
            journal.close()

    @property
    def layers(self) -> list[Layer]:
        """What goes around all towers, before anything else; nothing if there is no audit log."""
        if self._settings.to is None:
            return []
        return [Observe(self), *([self._gate] if self._settings.on_failure is OnFailure.REFUSE else [])]

    # -- what is written -----------------------------------------------------------------------------------------------

    def observed(self, observation: Observation, /) -> None:
        """A call has ended."""
        call = observation.call
        if self._method(call.method):
            line = self._line(call.caller, call.method, call.public or call.target, _given(call))
            line.upstream, line.request, line.exchange = call.upstream, call.number, call.exchange
            line.outcome, line.error, line.sent = _ended(observation)
            line.ms, line.attempts = round(observation.seconds * 1000, 3), observation.attempts
            self._put(line)

    def refused(self, request: Request, error: ManifoldError) -> None:
        """A request leads nowhere that its sender may see, or may not be made now."""
        if self.journal is not None and self._method(request.method):
            params = request.params
            line = self._line(request.caller, request.method, _asked_for(params), _arguments(params))
            line.kind, line.outcome, line.error, line.sent = "refusal", "refused", error.code, Sent.NO
            line.request = request.number
            self._put(line)

    def turned_away(self, status: int, path: str, client: str, principal: Principal = ANONYMOUS) -> None:
        """A request was refused at a door (401, 403 and the like), before anybody looked at what it asks."""
        facts = {"status": status, "path": path[:_LONGEST], "client": client}
        line = Line(now(), "refusal", principal=principal.id, name=principal.name, facts=facts)
        line.outcome, line.error = "refused", f"http-{status}"
        self._put(line)

    def act(self, act: str, *, principal: Principal = ANONYMOUS, **facts: Any) -> None:
        """Something was administered.

        Args:
            act: what, as in ``token.created``.
            principal: who did it, where that is known.
            facts: what else there is to say. No secrets.
        """
        self._put(_act_line(act, principal, facts))

    def decided(self, act: str, upstream: str, definitions: Sequence[str]) -> None:
        """A program of which this Manifold is a part has decided about definitions."""
        self.act(act, upstream=upstream, definitions=definitions, door="program")

    # -- how -----------------------------------------------------------------------------------------------------------

    def _line(self, caller: Caller, method: str, target: str, arguments: Any) -> Line:
        return Line(
            now(),
            "call",
            principal=caller.principal.id,
            name=caller.principal.name,
            agent=caller.agent or "",
            session=short(caller.session),
            client=client_name(caller.client_info),
            method=method,
            target=target[:_LONGEST],
            arguments=self._kept(arguments),
        )

    def _kept(self, arguments: Any) -> Any:
        kept = self._settings.arguments
        if kept is ArgumentsKept.DROP or arguments is None:
            return None
        try:
            size = len(encode(arguments))
            if size > self._settings.max_arguments:
                return {"left_out": f"{size} bytes"}
            return arguments if kept is ArgumentsKept.KEEP else redacted(arguments, self._secret)
        except (RecursionError, ValueError, TypeError):
            return {"left_out": "they are nested too deeply"}

    def _put(self, line: Line) -> None:
        if self.journal is None:
            return
        try:
            written = encode(line)
        except (ValueError, TypeError, RecursionError):  # lone surrogates in a name, say
            line.target, line.client, line.arguments, line.facts = "(not text)", "", None, {}
            written = encode(line)
        self.journal.put(written + b"\n")

    def _gate(self, service: Service) -> Service:
        async def run(call: Call, /) -> Reply:
            if self.journal is None or self.journal.failing or self.journal.full:
                hint = "Nothing was sent. The operator must see to the audit log; then try again."
                raise Unavailable("the audit log cannot be written, so calls are refused", hint=hint)
            return await service(call)

        return run


def refusals(auditor: Auditor, access: AccessLog) -> Callable[[Request, ManifoldError], None]:
    """Tells both logs of requests that lead nowhere."""

    def refused(request: Request, error: ManifoldError) -> None:
        access.refused(request.method, _asked_for(request.params), request.caller, error)
        auditor.refused(request, error)

    return refused


def _asked_for(params: Mapping[str, Any]) -> str:
    return str(params.get("name") or params.get("uri") or params.get("ref") or "")[:_LONGEST]


def act(settings: AuditConfig, act: str, *, principal: Principal = ANONYMOUS, **facts: Any) -> None:
    """Write one administrative act, from a command that serves nothing. Without an audit log nothing happens.

    Args:
        settings: ``Config.audit``.
        act: what was done, as in ``token.created``.
        principal: who did it, where that is known.
        facts: what else there is to say. No secrets.

    Raises:
        ConfigError: the audit log cannot be written.
    """
    if settings.to is not None:
        out = _out(settings)
        try:
            out.write(encode(_act_line(act, principal, facts)) + b"\n")
        except OSError as error:
            raise _unwritable(settings, error) from error
        finally:
            out.close()


def _act_line(act: str, principal: Principal, facts: Mapping[str, Any]) -> Line:
    told = {key: value for key, value in facts.items() if value not in (None, "", [], (), {})}
    return Line(now(), "act", act=act, principal=principal.id, name=principal.name, facts=told)


def _lost(lines: int) -> bytes:
    return encode(_act_line("audit.lost", ANONYMOUS, {"lines": lines})) + b"\n"


def _ended(observation: Observation) -> tuple[str, str, str]:
    """Outcome, error code, and whether it was sent."""
    error = observation.error
    if observation.outcome is Outcome.CANCELLED:
        return observation.outcome, "", Sent.MAYBE
    if error is None:
        reply = observation.reply
        if reply is not None and may_ask(reply) and asks(reply.result):
            return _ASKED, "", ""
        return observation.outcome, "", "" if observation.source == "upstream" else Sent.NO
    sent = error.sent if isinstance(error, UpstreamError) else Sent.MAYBE
    code = error.code if isinstance(error, ManifoldError) else type(error).__name__
    number = f" {error.jsonrpc}" if observation.outcome is Outcome.REJECTED and isinstance(error, ManifoldError) else ""
    return observation.outcome, code + number, sent


def _out(settings: AuditConfig) -> Out:
    if settings.to in STANDARD:
        return Stream(1 + STANDARD.index(settings.to))
    rotation = Rotation(settings.max_size if settings.rotate else 0, settings.keep)
    try:
        return AppendedFile(Path(settings.to or ""), rotation)
    except OSError as error:
        raise _unwritable(settings, error) from error


def _unwritable(settings: AuditConfig, error: OSError) -> ConfigError:
    hint = "name a file in a directory that Manifold may write to"
    return ConfigError([Problem("audit.to", f"{settings.to} cannot be written: {error.strerror}", hint)])


def _given(call: Call) -> Any:
    """The arguments of a call without those that the configuration gives: they may be secret."""
    arguments = _arguments(call.params)
    if not call.fixed or not isinstance(arguments, Mapping):
        return arguments
    return {name: value for name, value in arguments.items() if name not in call.fixed}


def _arguments(params: Mapping[str, Any] | None) -> Any:
    return None if params is None else params.get("arguments", params.get("argument"))
