"""``/status.json`` and ``/metrics``: how Manifold and its upstreams are, for this machine. No secrets."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from proxy import __version__
from proxy.masking import masked
from proxy.model import Kind, Listing
from proxy.runtime import Runtime
from proxy.telemetry.metrics import Summary, slowest
from proxy.upstream.instances import Group
from proxy.upstream.kinds import AnyUpstream
from proxy.upstream.stack import Tower
from proxy.upstream.upstream import Upstream

PATH: Final = "/status.json"
METRICS: Final = "/metrics"
TOP: Final = 10
"""How many of the slowest are named."""

_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip")
"""Headers of reverse proxies: with one of them, the client is not who connected to us."""

Json = dict[str, Any]


class StatusDoor:
    """Answers the status to clients on this machine, and to others where ``server.status`` says so."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def get(self, request: Request) -> JSONResponse:
        """Serve one request."""
        if not (self._runtime.config.server.status or is_local(request)):
            return _elsewhere()
        return JSONResponse(report(self._runtime), headers={"Cache-Control": "no-store"})


class MetricsDoor:
    """Answers Prometheus, under the same conditions.

    Args:
        runtime: whose figures.
        sessions: how many downstream sessions there are.
    """

    def __init__(self, runtime: Runtime, sessions: Callable[[], int]) -> None:
        self._runtime = runtime
        self._sessions = sessions

    async def get(self, request: Request) -> Response:
        """Serve one request."""
        if not (self._runtime.config.server.status or is_local(request)):
            return _elsewhere()
        from proxy.gateway import prometheus  # noqa: PLC0415 - the start-up does not wait for the client library

        body = prometheus.rendered(self._runtime, self._sessions())
        return Response(body, headers={"Content-Type": prometheus.TYPE, "Cache-Control": "no-store"})


def _elsewhere() -> JSONResponse:
    text = "the status is shown on this machine only; `server: {status: true}` shows it to others"
    return JSONResponse({"error": text}, status_code=403)


def is_local(request: Request) -> bool:
    """Whether the request comes from this machine, and not through a reverse proxy on it."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def report(runtime: Runtime) -> Json:
    """Everything there is to say, as JSON values. Times are UTC in ISO 8601, durations seconds."""
    metrics = runtime.registry.metrics
    whole = metrics.upstreams()
    catalog = runtime.holder.current
    return {
        "version": __version__,
        "upstreams": {
            one.name: _upstream(one, runtime.registry.tower(one.name), whole.get(one.name))
            | {"pinning": _pinning(runtime, one.name), "login": _login(runtime, one.name)}
            for one in runtime.registry
        },
        "catalog": {
            "version": catalog.version,
            **{f"{kind.value}s": len(catalog.of(kind)) for kind in Kind},
            "conflicts": [str(conflict) for conflict in catalog.conflicts],
        },
        "slowest": {
            "tools": _named(slowest(metrics.tools(), TOP)),
            "upstreams": _named(slowest(whole.values(), TOP)),
        },
    }


def _upstream(one: AnyUpstream, tower: Tower, summary: Summary | None) -> Json:
    bulkhead, cache = tower.layers.bulkhead, tower.layers.cache
    out: Json = {
        **_standing(one),
        "transport": one.config.type.value,
        "offers": None if one.listing is None else _counts(one.listing),
        "running": bulkhead.running if bulkhead is not None else None,
        "waiting": bulkhead.waiting if bulkhead is not None else None,
        "calls": None if summary is None else _figures(summary),
    }
    if cache is not None:
        stats = cache.stats()
        out["cache"] = {"hits": stats.hits, "misses": stats.misses, "entries": stats.entries, "bytes": stats.bytes}
    if isinstance(one, Group):
        out["members"] = {each.name: {**_standing(each), **_guard(tower, each.name)} for each in one.upstreams}
        return out
    return {**out, **_guard(tower, one.name)}


def _pinning(runtime: Runtime, name: str) -> Json:
    trust = runtime.trust
    return {
        "policy": runtime.config.pin_of(name).value,
        "fault": trust.fault(name),
        "waiting": trust.waiting(name),
        "rejected": trust.rejected(name),
        "suspicious": [str(remark) for remark in trust.doubts.remarks(name)],
    }


def _login(runtime: Runtime, name: str) -> Json | None:
    """The operator's token for an upstream, as far as it may be told: whose word it is, and until when."""
    grant = runtime.registry.wallet(name).grant
    if grant is None:
        return None
    return {
        "issuer": masked(grant.server.issuer),
        "until": None if grant.expires_at is None else _time(grant.expires_at),
    }


def _standing(one: Upstream | Group) -> Json:
    session = one.session
    return {
        "state": one.state.value,
        "reason": masked(one.reason),
        "since": _time(one.since),
        "era": None if one.era is None else one.era.value,
        "protocol": None if session is None else session.version,
        "error": None if one.error is None else one.error.text(),
    }


def _guard(tower: Tower, name: str) -> Json:
    guard = tower.guards[name]
    breaker = guard.breaker
    shown = None if breaker is None else {"state": breaker.state.value, "retry_in": round(breaker.retry_in(), 3)}
    return {"breaker": shown, "error_rate": round(guard.health.error_rate, 3)}


def _counts(listing: Listing) -> Json:
    return {
        "tools": len(listing.tools),
        "resources": len(listing.resources),
        "templates": len(listing.templates),
        "prompts": len(listing.prompts),
    }


def _named(summaries: Iterable[Summary]) -> list[Json]:
    return [
        {"upstream": one.upstream, **({"tool": one.tool} if one.tool else {}), **_figures(one)} for one in summaries
    ]


def _figures(one: Summary) -> Json:
    durations = {"mean": one.mean, "p50": one.p50, "p95": one.p95, "p99": one.p99, "longest": one.longest}
    return {
        "calls": one.calls,
        "successes": one.successes,
        "failures": dict(one.failures),
        **{name: round(seconds, 6) for name, seconds in durations.items()},
        "last": _time(one.last),
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
