"""``mcp-manifold pin``, ``approve`` and ``reject``: deciding about what an upstream offers."""

import sys
from collections.abc import Mapping
from typing import Annotated

from cyclopts import Parameter

from proxy.catalog.pinning import Part
from proxy.catalog.showing import on_one_line
from proxy.cli.acts import acted
from proxy.cli.options import ConfigFiles
from proxy.cli.pins import DIGITS, Pinned
from proxy.config.model import PinMode

Upstream = Annotated[str, Parameter(help="The name of the upstream.")]
_NAME = "A tool's, prompt's or template's own name, a URI, instructions, or kind:name"


def pin(upstream: Upstream, /, *, config: ConfigFiles = None) -> int:
    """Connect to an upstream and agree to everything that it offers now, whatever was decided before."""
    pinned = Pinned(config)
    (name,) = pinned.chosen(upstream)
    offer = pinned.fresh([name])[name]
    if offer.listing is None:
        print(f"mcp-manifold pin: {name}: {offer.reason}", file=sys.stderr)
        return 1
    count = pinned.decisions(name).pin(offer.listing)
    pinned.decided()
    acted(pinned.config, "pin.renewed", upstream=name, definitions=count)
    print(f"Pinned {count} definitions of {name}.")
    _say_if_off(pinned, name)
    return 0


def approve(
    upstream: Upstream,
    /,
    *names: Annotated[str, Parameter(help=f"{_NAME}; with @HASH, exactly that definition.")],
    everything: Annotated[
        bool, Parameter(name="--all", help="Everything that was new or changed at the review.", negative="")
    ] = False,
    config: ConfigFiles = None,
) -> int:
    """Agree to definitions just as the last review has shown them. A running Manifold serves them at once."""
    if not names and not everything:
        print("mcp-manifold approve: name what to approve, or say --all", file=sys.stderr)
        return 2
    pinned = Pinned(config)
    (name,) = pinned.chosen(upstream)
    chosen = pinned.decisions(name).approve(names, pinned.last(name), everything=everything)
    return _done(pinned, name, "Approved", chosen)


def reject(
    upstream: Upstream,
    /,
    *names: Annotated[str, Parameter(help=f"{_NAME}.")],
    config: ConfigFiles = None,
) -> int:
    """Refuse definitions just as the last review has shown them: they are served to nobody."""
    if not names:
        print("mcp-manifold reject: name what to reject", file=sys.stderr)
        return 2
    pinned = Pinned(config)
    (name,) = pinned.chosen(upstream)
    return _done(pinned, name, "Rejected", pinned.decisions(name).reject(names))


def _done(pinned: Pinned, upstream: str, what: str, chosen: Mapping[Part, str]) -> int:
    pinned.decided()
    told = [f"{on_one_line(str(part))}  @{digest[:DIGITS] or '(gone)'}" for part, digest in chosen.items()]
    acted(pinned.config, f"pin.{what.lower()}", upstream=upstream, definitions=told)
    for one in told:
        print(f"{what} {upstream}: {one}")
    if not told:
        print(f"Nothing of {upstream} waits for a decision.")
    _say_if_off(pinned, upstream)
    return 0


def _say_if_off(pinned: Pinned, upstream: str) -> None:
    if pinned.config.pin_of(upstream) is PinMode.OFF:
        print(f"The policy for {upstream} is off: give it `pin: hold` or `pin: warn` for this to count.")
