"""Which URIs pinning holds back, also where nobody listed them under just this spelling."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property

from proxy.catalog.policy import decoded
from proxy.catalog.snapshot import Catalog
from proxy.catalog.templates import matches
from proxy.model import Kind


class Withheld:
    """The resources and templates of a catalog that are held back."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def holds(self, upstream: str, uri: str, fits: Callable[[], bool]) -> bool:
        """Whether a URI, or a template, of an upstream is held back.

        Args:
            upstream: whose it is.
            uri: as the upstream, or whoever asks, writes it.
            fits: whether a template that is served gives this URI. A template that is held back takes nothing away
                from it; a single resource that is held back is held back all the same.
        """
        spellings = {uri, decoded(uri)}
        if spellings & self._named.get(upstream, frozenset()):
            return True
        templates = self._templates.get(upstream, ())
        if not any(matches(template, text, strict=False) for template in templates for text in spellings):
            return False
        return self._catalog.own(Kind.RESOURCE, upstream, uri) is None and not fits()

    @cached_property
    def _templates(self) -> Mapping[str, list[str]]:
        found: defaultdict[str, list[str]] = defaultdict(list)
        for upstream, template in self._catalog.withheld.get(Kind.TEMPLATE, ()):
            found[upstream].append(template)
        return found

    @cached_property
    def _named(self) -> Mapping[str, frozenset[str]]:
        found: defaultdict[str, set[str]] = defaultdict(set)
        for kind in (Kind.RESOURCE, Kind.TEMPLATE):
            for upstream, uri in self._catalog.withheld.get(kind, ()):
                found[upstream] |= {uri, decoded(uri)}
        return {upstream: frozenset(uris) for upstream, uris in found.items()}
