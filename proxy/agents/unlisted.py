"""Names that can only belong to an upstream which was never listed: not unknown, but out of reach."""

from proxy.agents.view import View
from proxy.catalog.naming import sanitise
from proxy.model import Kind


def never_listed(view: View, kind: Kind, name: str) -> str | None:
    """The visible upstream to which a name must belong, though nobody knows yet what it offers; None if there is none.

    By the head that its naming pattern gives to all its names, or by ``server.tool`` and the like. Of several, the one
    with the longest head. What the view's filters would not let pass belongs to none.
    """
    fits = {
        upstream: head
        for upstream in view.upstreams
        if upstream not in view.catalog.listings
        for head in _heads(view, upstream)
        if name.startswith(head) and len(name) > len(head) and view.admits(kind, upstream, name[len(head) :], name)
    }
    return max(fits, key=lambda upstream: (len(fits[upstream]), upstream), default=None)


def _heads(view: View, upstream: str) -> list[str]:
    """Beginnings of names, the longest last."""
    public = view.catalog.policy.naming.head_of(upstream)
    short = [f"{form}{separator}" for form in {upstream, sanitise(upstream)} for separator in "._/"]
    return sorted({*short, *([public] if public else [])}, key=len)
