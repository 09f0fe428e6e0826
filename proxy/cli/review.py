"""``mcp-manifold review``: how what upstreams offer differs from what somebody has agreed to."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from cyclopts import Parameter

from proxy.catalog.differences import ABSENT, Change, differences, lines
from proxy.catalog.pinning import Finding, Part, State
from proxy.catalog.showing import on_one_line
from proxy.catalog.store import Loaded as Offer
from proxy.catalog.suspicion import Remark, suspicions
from proxy.cli.options import ConfigFiles
from proxy.cli.pins import DIGITS, Pinned
from proxy.decisions import Review

WAITING: Final = 3
"""The exit status when something waits for a decision."""

_SHOWN: Final = (State.CHANGED, State.NEW, State.REJECTED, State.GONE)

Json = dict[str, Any]


def review(
    upstream: Annotated[str | None, Parameter(help="The name of an upstream; by default all.")] = None,
    /,
    *,
    config: ConfigFiles = None,
    fresh: Annotated[
        bool, Parameter(help="Connect and see what is offered now, not what was seen last.", negative="")
    ] = False,
    as_json: Annotated[
        bool, Parameter(name="--json", help="Print JSON; this is no review that approve goes by.", negative="")
    ] = False,
) -> int:
    """Show field by field what is new or has changed since somebody agreed to it, and which texts are suspicious.

    The exit status is 3 when something waits for a decision, 1 when an upstream or its pins cannot be used, else 0.
    """
    pinned = Pinned(config)
    names = pinned.chosen(upstream)
    offers = {} if fresh else {name: pinned.last(name) for name in names}
    unknown = [name for name in names if fresh or offers[name].listing is None]
    offers |= pinned.fresh(unknown) if unknown else {}
    tools = {name: _tools(offer) for name, offer in offers.items()}
    reports = {name: _report(pinned, name, offers[name], tools, keep=not as_json) for name in names}
    if as_json:
        print(json.dumps({"upstreams": {name: one.as_json() for name, one in reports.items()}}, indent=2))
    else:
        print("\n\n".join("\n".join(one.lines()) for one in reports.values()))
    return max((one.status for one in reports.values()), default=0)


class Report:
    """What there is to say about one upstream."""

    def __init__(self, name: str, policy: str, offer: Offer, found: Review | None) -> None:
        self.name = name
        self.policy = policy
        self.offer = offer
        self.found = found
        self.remarks: tuple[Remark, ...] = ()

    @property
    def fault(self) -> str:
        """Why nothing can be compared; empty if it can."""
        if self.found is None:
            return self.offer.reason
        return self.found.pins.fault if self.found.pins is not None else ""

    @property
    def status(self) -> int:
        """The exit status."""
        if self.found is not None and self.found.pending:
            return WAITING
        return 1 if self.fault else 0

    def lines(self) -> Iterator[str]:
        """For people."""
        found = self.found
        yield f"{self.name}  (pin: {self.policy})  {self._summary()}"
        if found is None or found.pins is None or found.pins.fault:
            yield from self._remarked(None)
            return
        for state in _SHOWN:
            for finding in found.findings:
                if finding.state is state:
                    yield from self._shown(finding)
        shown = {finding.part for finding in found.findings if finding.state in (State.CHANGED, State.NEW)}
        yield from self._remarked({one.part for one in self.remarks} - shown)

    def as_json(self) -> Json:
        """For programs: everything but what is the same."""
        found = self.found
        compared = found is not None and found.pins is not None
        return {
            "policy": self.policy,
            "fault": self.fault,
            "pinned": compared,
            "waiting": 0 if found is None else len(found.pending),
            "findings": [
                _finding(one) for one in (found.findings if found else ()) if compared and one.state in _SHOWN
            ],
            "remarks": [
                {
                    "kind": one.part.kind,
                    "name": one.part.name,
                    "place": one.place,
                    "what": one.what,
                    "text": one.excerpt,
                }
                for one in self.remarks
            ],
        }

    def _summary(self) -> str:
        found = self.found
        if self.fault or found is None:
            return f"✗ {self.fault}"
        if found.pins is None:
            return f"never pinned; it offers {len(found.offered)} definitions"
        counts = {state: sum(one.state is state for one in found.findings) for state in State}
        words = [f"{count} {state.value}" for state, count in counts.items() if count]
        return ", ".join(words) or "offers nothing"

    def _shown(self, finding: Finding) -> Iterator[str]:
        known = finding.offered or finding.pinned
        digits = known.hash[:DIGITS] if known is not None else ""
        yield f"  {finding.state.value:<8} {_called(finding.part)}  @{digits}"
        if finding.state in (State.CHANGED, State.NEW):
            for change in _changes(finding):
                shown = [f"        {line}" for line in lines(change)]
                yield from (shown[0].removeprefix("  "), *shown[1:]) if change.path else shown
            yield from self._remarked({finding.part})

    def _remarked(self, parts: set[Part] | None) -> Iterator[str]:
        for one in self.remarks:
            if parts is None or one.part in parts:
                yield f"      ? {_called(one.part)}: {one.what.value} in {on_one_line(one.place)}: {one.excerpt}"


def _report(pinned: Pinned, name: str, offer: Offer, tools: Mapping[str, list[str]], *, keep: bool) -> Report:
    found = None if offer.listing is None else pinned.decisions(name).review(offer.listing, keep=keep)
    report = Report(name, pinned.config.pin_of(name).value, offer, found)
    if found is not None:
        report.remarks = suspicions(found.offered, {other: own for other, own in tools.items() if other != name})
    return report


def _tools(offer: Offer) -> list[str]:
    tools = () if offer.listing is None else offer.listing.tools
    return [str(tool["name"]) for tool in tools if isinstance(tool, Mapping) and "name" in tool]


def _called(part: Part) -> str:
    return on_one_line(str(part))


def _changes(finding: Finding) -> tuple[Change, ...]:
    before = ABSENT if finding.pinned is None else finding.pinned.content
    after = ABSENT if finding.offered is None else finding.offered.content
    if before is ABSENT and isinstance(after, Mapping):
        before = {}
    return differences(before, after)


def _finding(one: Finding) -> Json:
    return {
        "kind": one.part.kind,
        "name": one.part.name,
        "state": one.state,
        "hash": one.offered.hash if one.offered else None,
        "pinned": one.pinned.hash if one.pinned else None,
        "changes": [_change(each) for each in _changes(one)] if one.state in (State.CHANGED, State.NEW) else [],
    }


def _change(change: Change) -> Json:
    sides = {"before": change.before, "after": change.after}
    return {"path": change.path, **{side: value for side, value in sides.items() if value is not ABSENT}}
