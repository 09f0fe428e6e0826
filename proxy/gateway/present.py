"""How Manifold introduces itself: the capabilities it can really serve, and the upstreams' instructions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from proxy.agents.view import View
from proxy.catalog.chain import CHAIN_KEY
from proxy.model import Era, Params

if TYPE_CHECKING:
    from proxy.runtime import Runtime  # only its name: the first answer of all does not wait for its import

CARRIED: Final = ("io.modelcontextprotocol/ui", "io.modelcontextprotocol/tasks")
"""Extensions whose traffic the relay understands."""

_ANYTHING: Final[Params] = {"resources": {"subscribe": True}, "completions": {}, "logging": {}}


def capabilities_of(view: View, era: Era, chain: list[str]) -> dict[str, Any]:
    """The server capabilities for a downstream of this view.

    The three kinds of lists are always served, empty ones included: an upstream may come up at any time, and what was
    not promised at the start of a handshake session cannot be promised later. For the same reason an upstream that
    was never listed yet counts as one that can do everything.
    """
    capabilities = [listing.capabilities for listing in view.listings.values()]
    if len(view.listings) < len(view.upstreams):
        capabilities.append(_ANYTHING)
    offered: dict[str, Any] = {
        "tools": {"listChanged": True},
        "resources": {"listChanged": True, "subscribe": any(map(_subscribable, capabilities))},
        "prompts": {"listChanged": True},
        "experimental": {CHAIN_KEY: {"chain": chain}},
    }
    for optional in ("completions", "logging"):
        if any(optional in one for one in capabilities):
            offered[optional] = {}
    if era is Era.MODERN and (extensions := _extensions(capabilities)):
        offered["extensions"] = extensions
    return offered


def _subscribable(capabilities: Params) -> bool:
    resources = capabilities.get("resources")
    return isinstance(resources, Mapping) and resources.get("subscribe") is True


def _extensions(capabilities: list[Params]) -> dict[str, Any]:
    """The extensions that some upstream serves and Manifold can carry."""
    found: dict[str, Any] = {}
    for one in capabilities:
        offered = one.get("extensions")
        if isinstance(offered, Mapping):
            found |= {name: offered[name] for name in CARRIED if name in offered and name not in found}
    return found


def introduced(result: Params, runtime: "Runtime", era: Era, agent: str | None) -> dict[str, Any]:
    """An introduction as an agent gets it: what the SDK says of Manifold, and what Manifold can serve."""
    view = runtime.view(agent)
    told = dict(result) | {"capabilities": capabilities_of(view, era, runtime.chain())}
    told.pop("instructions", None)
    instructions = instructions_of(view, runtime.config.server.instructions)
    return told | {"instructions": instructions} if instructions else told


def instructions_of(view: View, own: str | None) -> str | None:
    """The operator's instructions, or else those of the upstreams, each under its name.

    A single upstream whose names pass through speaks for itself: its text is left as it is.
    """
    if own is not None:
        return own
    texts = {name: text for name in view.listings if (text := view.instructions(name))}
    if transparent(view):
        return next(iter(texts.values()), None)
    return "\n\n".join(f"## {name}\n{text}" for name, text in texts.items()) or None


def transparent(view: View) -> bool:
    """Whether the view is one upstream under its own names: then nobody should notice a proxy."""
    return len(view.upstreams) == 1 and view.catalog.policy.naming.passes_through(view.upstreams[0])
