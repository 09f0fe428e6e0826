"""An upstream is one server, or a group of equal ones: what both are called together, and which one it is to be."""

from collections.abc import Mapping
from dataclasses import replace

from proxy.credentials.wallet import Wallet
from proxy.errors import ConnectFailed, UpstreamError
from proxy.model import Listing, StatusEvent
from proxy.service.wording import NOTHING_SENT
from proxy.upstream.attempt import unavailable
from proxy.upstream.guard import Member
from proxy.upstream.instances import Group, Moved
from proxy.upstream.standing import Hooks
from proxy.upstream.upstream import Upstream

AnyUpstream = Upstream | Group


def upstream_of(name: str, wallet: Wallet, hooks: Hooks, known: Listing | None, moved: Moved) -> AnyUpstream:
    """The upstream that a wallet's configuration asks for; ``moved`` hears what becomes of each of its links."""
    if len(wallet.config.endpoints) > 1:
        return Group(name, wallet, hooks, known, moved)

    def status(event: StatusEvent) -> None:
        moved(event)
        hooks.status(event)

    return Upstream(name, wallet.config, hooks=replace(hooks, status=status), known=known, wallet=wallet)


def members_of(upstream: AnyUpstream) -> Mapping[str, Member]:
    """What a tower stands before: name -> the upstream, or its instances."""
    if isinstance(upstream, Upstream):
        return {upstream.name: upstream}
    return {one.upstream.name: one for one in upstream.instances}


def unreachable(upstream: AnyUpstream) -> UpstreamError:
    """Why nobody knows what an upstream offers: its own error, or that it has not been listed yet."""
    if upstream.error is not None:
        return unavailable(upstream.error)
    message = f"{upstream.name} has not said yet what it offers: it is {upstream.state.value}"
    return ConnectFailed(message, upstream=upstream.name, hint=f"{NOTHING_SENT} Repeat the call in a moment.")
