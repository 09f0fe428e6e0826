"""The lifecycle of an upstream, as one pure table.

Theory of operation. An upstream is always in exactly one state. Its supervisor feeds events; the table says where
each leads. An event that a state has no row for changes nothing (a refresh that fails while we drain is not news).
Nothing here knows a clock, a socket or a task: when to retry is ``backoff``'s affair, what to do is the supervisor's.

idle          configured, nothing runs (lazy, stopped for idleness)
connecting    a link is being opened, negotiated and listed
ready         negotiated and listed: calls go through
degraded      ready, but too many calls fail (warning threshold)
backing_off   the last attempt failed or the link was lost; another attempt follows
error         ready, but most calls fail (critical threshold), or it crashes again and again
auth_required it wants credentials; not retried blindly
draining      no new calls; those in flight finish
stopped       over; started again it begins as idle
"""

from enum import StrEnum
from typing import Final

from proxy.model import UpstreamState as S


class Event(StrEnum):
    """What can happen to an upstream."""

    START = "start"
    CONNECTED = "connected"
    FAILED = "failed"
    CRASHING = "crashing"
    LOST = "lost"
    AUTH = "auth"
    IDLE = "idle"
    WARN = "warn"
    CRITICAL = "critical"
    HEALTHY = "healthy"
    DRAIN = "drain"
    STOP = "stop"


_LIVE: Final = (S.READY, S.DEGRADED, S.ERROR)
_RESTING: Final = (S.IDLE, S.BACKING_OFF, S.ERROR, S.AUTH_REQUIRED)

TRANSITIONS: Final[dict[tuple[S, Event], S]] = {
    **{(s, Event.START): S.CONNECTING for s in _RESTING},
    (S.CONNECTING, Event.CONNECTED): S.READY,
    (S.CONNECTING, Event.FAILED): S.BACKING_OFF,
    (S.CONNECTING, Event.CRASHING): S.ERROR,
    (S.CONNECTING, Event.AUTH): S.AUTH_REQUIRED,
    (S.BACKING_OFF, Event.CRASHING): S.ERROR,
    (S.BACKING_OFF, Event.AUTH): S.AUTH_REQUIRED,
    **{(s, Event.LOST): S.BACKING_OFF for s in _LIVE},
    **{(s, Event.AUTH): S.AUTH_REQUIRED for s in _LIVE},
    **{(s, Event.IDLE): S.IDLE for s in (*_LIVE, S.STOPPED)},
    **{(s, Event.WARN): S.DEGRADED for s in _LIVE},
    **{(s, Event.CRITICAL): S.ERROR for s in _LIVE},
    **{(s, Event.HEALTHY): S.READY for s in _LIVE},
    **{(s, Event.DRAIN): S.DRAINING for s in S if s not in (S.STOPPED, S.DRAINING)},
    **{(s, Event.STOP): S.STOPPED for s in S if s is not S.STOPPED},
}
"""Every transition there is. ``docs/reference/lifecycle.md`` is generated from it."""

SERVING: Final = frozenset(_LIVE)
"""The states in which calls are sent."""


def step(state: S, event: Event) -> S:
    """Return the state that follows; the same state when the event means nothing in it."""
    return TRANSITIONS.get((state, event), state)
