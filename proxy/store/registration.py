"""Upstreams and agents that come and go at run time: every change is another configuration, applied as a reload is."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
from pydantic import BaseModel

from proxy.config.diff import TUNING, differing
from proxy.config.load import load_data
from proxy.config.model import AgentConfig, Config, UpstreamConfig
from proxy.config.rules import agent_name_fault, upstream_name_fault
from proxy.errors import ConfigError, Problem, UnknownServer, UpstreamError
from proxy.model import StatusEvent, UpstreamState
from proxy.runtime import Runtime
from proxy.store.status import ConnectionTest, Status, status_of, status_off, test_of
from proxy.upstream.probe import probe

Spec: TypeAlias = str | Mapping[str, Any] | UpstreamConfig
"""An upstream: a URL, a mapping as in a configuration file (secrets may be ``${env:NAME}``), or a checked model."""

_FAILING = (UpstreamState.ERROR, UpstreamState.AUTH_REQUIRED, UpstreamState.BACKING_OFF)


class Registration:
    """Changes what a runtime runs. Changes happen one after the other, whoever asks for them.

    Args:
        runtime: where the runtime is, once there is one.
        owner: the agent to which belongs what is registered here; None for what is shared.
        base: the registration of the shared ones, where this one is an agent's.
    """

    def __init__(
        self, runtime: Callable[[], Runtime], *, owner: str | None = None, base: "Registration | None" = None
    ) -> None:
        self._runtime = runtime
        self._owner = owner
        self._changing: anyio.Lock = anyio.Lock() if base is None else base._changing  # noqa: SLF001 - its own kind
        self._owners: dict[str, str] = {} if base is None else base._owners  # noqa: SLF001 - same

    def of(self, owner: str | None) -> "Registration":
        """The registration of what belongs to an agent."""
        return self if owner == self._owner else Registration(self._runtime, owner=owner, base=self)

    # -- what there is -------------------------------------------------------------------------------------------------

    def names(self) -> dict[str, str]:
        """Its upstreams: the name here -> the name in the configuration."""
        known = self._runtime().config.upstreams
        return {self._local(full): full for full, config in known.items() if config.agent == self._owner}

    def owner(self, upstream: str) -> str | None:
        """The agent to which an upstream (as the configuration calls it) belongs or belonged; None if it is shared."""
        config = self._runtime().config.upstreams.get(upstream)
        return self._owners.get(upstream) if config is None else config.agent

    def heard(self, event: StatusEvent) -> StatusEvent | None:
        """An event as it is told here; None if it is not this one's business."""
        if self.owner(event.upstream) != self._owner:
            return None
        return event if self._owner is None else replace(event, upstream=self._local(event.upstream))

    def shown(self, upstream: str) -> str:
        """How an upstream is called here: one of its own by the name under which it was registered."""
        return self._local(upstream) if self.owner(upstream) == self._owner else upstream

    def written(self, name: str) -> Iterator[str]:
        """What ``server.tool`` may mean among an agent's own upstreams, with the server's name in the configuration."""
        if self._owner is None:
            return
        for local, full in self.names().items():
            if name.startswith(tuple(f"{local}{separator}" for separator in "._/")):
                yield full + name[len(local) :]

    def status(self, name: str) -> Status:
        """How an upstream stands. Raises UnknownServer if there is none of that name."""
        runtime = self._runtime()
        full, config = self._config(name)
        found = status_of(runtime.registry[full]) if full in runtime.registry else status_off(full, config)
        return replace(found, name=name)

    def statuses(self) -> dict[str, Status]:
        """How all upstreams stand, in the order of their registration."""
        return {name: self.status(name) for name in self.names()}

    def _config(self, name: str) -> tuple[str, UpstreamConfig]:
        known = self.names()
        if name not in known:
            raise UnknownServer(f"There is no upstream {name!r}.", name=name, suggestions=sorted(known)[:8])
        return known[name], self._runtime().config.upstreams[known[name]]

    def _full(self, name: str) -> str:
        own = self.names().get(name)
        return own or (name if self._owner is None else f"{self._owner}.{name}")

    def _local(self, full: str) -> str:
        return full if self._owner is None else full.removeprefix(f"{self._owner}.")

    def _specified(self, name: str, spec: Spec) -> tuple[str, UpstreamConfig]:
        config = upstream_config(name, spec)
        full = self._full(name)
        if fault := upstream_name_fault(full):
            raise ConfigError([Problem(name, fault)])
        return full, config if self._owner is None else config.model_copy(update={"agent": self._owner})

    # -- upstreams -----------------------------------------------------------------------------------------------------

    async def register(self, name: str, spec: Spec) -> None:
        """Take on an upstream and start it. Waits for its first listing until its grace is over.

        Raises:
            ConfigError: the specification cannot be used, or the name is taken.
        """
        full, config = self._specified(name, spec)

        def added(now: Mapping[str, UpstreamConfig]) -> dict[str, UpstreamConfig]:
            if full in now:
                raise ConfigError([Problem(name, "is registered already", "unregister it first, or ensure it")])
            return {**now, full: config}

        await self._apply(added)

    async def unregister(self, name: str) -> None:
        """Give up an upstream. Its calls under way finish in the background.

        Raises:
            UnknownServer: there is none of that name.
        """

        def removed(now: Mapping[str, UpstreamConfig]) -> dict[str, UpstreamConfig]:
            full, _ = self._config(name)
            return {other: config for other, config in now.items() if other != full}

        await self._apply(removed)

    async def ensure_registered(self, name: str, spec: Spec) -> bool:
        """Register an upstream, unless it is there as specified and in good order.

        One whose address, transport, headers or command differ gets a new link; one that differs in its limits only
        keeps it; one that cannot be reached is taken off and registered anew.

        Returns:
            Whether anything had to be done.

        Raises:
            ConfigError: the specification cannot be used.
        """
        full, config = self._specified(name, spec)
        known = self._runtime().config.upstreams.get(full)
        if known is not None and known.agent != self._owner:
            raise ConfigError([Problem(name, "is a name that cannot be used here", "choose another one")])
        if known == config and config.enabled and self.status(name).state not in _FAILING:
            await anyio.lowlevel.checkpoint()  # who asks until it is connected leaves the loop to who connects it
            return False
        if known is not None and differing(known, config) <= TUNING and self.status(name).state in _FAILING:
            await self.unregister(name)
        await self._apply(lambda now: {**now, full: config})
        return True

    async def connect(self, names: Iterable[str]) -> dict[str, Status]:
        """Connect upstreams, and wait until each first attempt has ended, at most its ``start_timeout``.

        Raises:
            UnknownServer: there is none of that name.
        """
        chosen = self._chosen(names)
        await self._apply(lambda now: _switched(now, chosen.values(), enabled=True))
        async with anyio.create_task_group() as tasks:
            for full in chosen.values():
                tasks.start_soon(self._settle, full)
        return {name: self.status(name) for name in chosen}

    async def disconnect(self, names: Iterable[str]) -> None:
        """Disconnect upstreams: exactly their tools go, and come back with ``connect``.

        Raises:
            UnknownServer: there is none of that name.
        """
        chosen = self._chosen(names)
        await self._apply(lambda now: _switched(now, chosen.values(), enabled=False))

    async def test(self, target: str | Mapping[str, Any] | UpstreamConfig) -> ConnectionTest:
        """Reach an upstream once, on a connection of its own.

        Raises:
            ConfigError: the specification cannot be used.
        """
        if isinstance(target, str) and (target in self.names() or "://" not in target):
            return test_of(await probe(target, self._config(target)[1], vault=self._runtime().registry.vault))
        return test_of(await probe("test", upstream_config("test", target), vault=self._runtime().registry.vault))

    def _chosen(self, names: Iterable[str]) -> dict[str, str]:
        return {name: self._config(name)[0] for name in tuple(names) or self.names()}

    async def _settle(self, name: str) -> None:
        upstream = self._runtime().registry[name]
        if upstream.session is not None:
            return
        with anyio.move_on_after(upstream.config.start_timeout):
            if upstream.has_settled:
                await _first_attempt(upstream.refresh)
            else:
                upstream.start()
                await upstream.settled()

    # -- agents --------------------------------------------------------------------------------------------------------

    async def set_agent(self, name: str, settings: AgentConfig | Mapping[str, Any] | None) -> None:
        """Create or change an agent; None removes it.

        Raises:
            ConfigError: the settings cannot be used.
            UnknownServer: there is no such agent to remove.
        """
        if settings is None and name not in self._runtime().config.agents:
            raise UnknownServer(f'There is no agent "{name}".', name=name)
        config = None if settings is None else self._agent(name, settings)
        async with self._changing:
            runtime = self._runtime()
            agents = {other: one for other, one in runtime.config.agents.items() if other != name}
            upstreams = runtime.config.upstreams
            if config is None:
                upstreams = {full: one for full, one in upstreams.items() if one.agent != name}
            else:
                agents[name] = config
            await runtime.apply(runtime.config.model_copy(update={"agents": agents, "upstreams": upstreams}))

    def _agent(self, name: str, settings: AgentConfig | Mapping[str, Any]) -> AgentConfig:
        if fault := agent_name_fault(name):
            raise ConfigError([Problem(f"agents.{name}", fault)])
        if isinstance(settings, AgentConfig):
            return settings
        # With servers of the same names, so that a reference to one that is not there is noticed.
        servers = {server: {"command": "unused"} for server in self.of(None).names()}
        data = {"mcpServers": servers, "agents": {name: _plain(settings)}}
        return load_data(data).config.agents[name]

    async def _apply(self, change: Callable[[Mapping[str, UpstreamConfig]], dict[str, UpstreamConfig]]) -> None:
        async with self._changing:
            runtime = self._runtime()
            upstreams = change(runtime.config.upstreams)
            self._owners.update({full: one.agent for full, one in upstreams.items() if one.agent is not None})
            await runtime.apply(runtime.config.model_copy(update={"upstreams": upstreams}))


async def _first_attempt(refresh: Callable[[], Awaitable[None]]) -> None:
    try:
        await refresh()
    except UpstreamError:
        return  # its status says so


def upstream_config(name: str, spec: Spec) -> UpstreamConfig:
    """A checked specification of an upstream.

    Raises:
        ConfigError: with everything that is wrong with it.
    """
    if fault := upstream_name_fault(name):
        raise ConfigError([Problem(f"mcpServers.{name}", fault)])
    if isinstance(spec, UpstreamConfig):
        return spec
    entry = {"url": spec} if isinstance(spec, str) else _plain(spec)
    return load_data({"mcpServers": {name: entry}}).config.upstreams[name]


def config_of(source: Any) -> Config:
    """A configuration from a mapping or a model.

    Raises:
        ConfigError: with everything that is wrong with it.
    """
    if isinstance(source, Config):
        return source
    return load_data(_plain(source)).config if source is not None else Config()


def _switched(now: Mapping[str, UpstreamConfig], names: Iterable[str], *, enabled: bool) -> dict[str, UpstreamConfig]:
    chosen = set(names)
    return {
        name: config.model_copy(update={"enabled": enabled}) if name in chosen else config
        for name, config in now.items()
    }


def _plain(value: Any) -> Any:
    """Plain data in which a caller may have put models, tuples or paths."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
