"""The upstreams of a program, shared or of one agent alone: what ``Manifold`` and ``Context`` have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.config.model import UpstreamConfig
from proxy.store.listeners import Listeners, StatusCallback
from proxy.store.registration import Registration, Spec
from proxy.store.status import ConnectionTest, Status


@dataclass(frozen=True, slots=True)
class Place:
    """Where upstreams come and go."""

    registration: Registration
    listeners: Listeners = field(default_factory=Listeners)


class Servers:
    """Upstreams that come and go at run time.

    Those of a ``Manifold`` or the store are shared: every agent whose ``servers`` name one sees it. Those that an
    agent's context registers are its own: neither their tools nor their state, sessions or figures exist for anybody
    else. Two agents may use one name for different servers.
    """

    _place: Place
    _agent: str | None = None

    async def register(self, name: str, spec: Spec) -> Status:
        """Take on an upstream and start it. Waits until it is listed or has failed, at most for its grace.

        Args:
            name: its name.
            spec: a URL, a mapping as in a configuration file (``${env:NAME}`` is filled in), or an ``UpstreamConfig``.

        Raises:
            ConfigError: the specification cannot be used, or the name is taken.
        """
        await self._registration.register(name, spec)
        return self.status(name)

    async def unregister(self, name: str) -> None:
        """Give up an upstream; its calls under way finish in the background. Raises UnknownServer."""
        await self._registration.unregister(name)

    async def ensure_registered(self, name: str, spec: Spec) -> bool:
        """Register an upstream, unless it is there as specified and in good order; returns whether it was not.

        One whose address, transport, headers or command differ, or which cannot be reached, is connected anew.

        Raises:
            ConfigError: the specification cannot be used.
        """
        return await self._registration.ensure_registered(name, spec)

    def is_registered(self, name: str) -> bool:
        """Whether there is an upstream of that name, connected or not."""
        return name in self._registration.names()

    async def connect(self, *names: str) -> dict[str, Status]:
        """Connect upstreams, or all; waits until it is known how that ended, and returns how they stand.

        Raises:
            UnknownServer: there is none of that name.
        """
        return await self._registration.connect(names)

    async def disconnect(self, *names: str) -> None:
        """Disconnect upstreams, or all: exactly their tools go until ``connect``. Raises UnknownServer."""
        await self._registration.disconnect(names)

    async def test_connection(self, target: str | Mapping[str, Any] | UpstreamConfig) -> ConnectionTest:
        """Reach an upstream once, on a connection of its own, and say how that went.

        Args:
            target: the name of a registered upstream, a URL, or a specification as for ``register``.

        Raises:
            ConfigError: the specification cannot be used.
            UnknownServer: it is neither a URL nor a registered name.
        """
        return await self._registration.test(target)

    def status(self, name: str) -> Status:
        """How an upstream stands. Raises UnknownServer."""
        return self._registration.status(name)

    def statuses(self) -> dict[str, Status]:
        """How all upstreams stand that are registered here."""
        return self._registration.statuses()

    def on_status_change(self, callback: StatusCallback) -> Callable[[], None]:
        """Call a function or a coroutine function on every change of state of an upstream that is registered here.

        A callback that fails is logged and harms nobody.

        Returns:
            How to end that.
        """
        return self._place.listeners.add(callback, self._registration.heard)

    @property
    def _registration(self) -> Registration:
        return self._place.registration.of(self._agent)
