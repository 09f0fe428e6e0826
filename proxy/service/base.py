"""The two abstractions of the tower."""

from collections.abc import Callable
from typing import Protocol

from proxy.model import Call, Reply


class Service(Protocol):
    """Whatever answers a call: an upstream's session, or any layer around it."""

    async def __call__(self, call: Call, /) -> Reply:
        """Answer one call.

        Raises:
            UpstreamError: it failed; ``sent`` says whether the request had reached the upstream.
        """
        ...


Layer = Callable[[Service], Service]
"""Wraps a service in another one. The objects of this package are layers: ``Retry(policy)(service)``."""


def stack(*layers: Layer | None) -> Layer:
    """Join layers into one, the outermost first. None stands for a layer that is switched off: it costs nothing."""
    present = [layer for layer in layers if layer is not None]

    def wrap(service: Service) -> Service:
        for layer in reversed(present):
            service = layer(service)
        return service

    return wrap
