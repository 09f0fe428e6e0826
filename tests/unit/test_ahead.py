"""Listings that are got ready before they count: the outcome is the same as without, and nobody is held up by it."""

from typing import Any, Final

import anyio
from hypothesis import given
from hypothesis import strategies as st

from proxy.agents.view import View
from proxy.agents.views import Views, changed_lists
from proxy.ahead import Ahead
from proxy.catalog.holder import CatalogHolder
from proxy.catalog.policy import CatalogPolicy
from proxy.config.model import AgentConfig, Config
from proxy.model import Era, Kind, Listing
from proxy.service.steps import done
from proxy.trust import Trust
from proxy.upstream.incoming import SessionIncoming
from proxy.upstream.negotiate import Negotiated
from proxy.upstream.session import Session
from tests.support.scripted_link import ScriptedLink

AGENTS: Final = {
    "all": AgentConfig(),
    "some": AgentConfig.model_validate({"tools": {"deny": ["b*"]}, "names": "prefixed"}),
    "changed": AgentConfig.model_validate({"overrides": {"mcp_x_a": {"description": "other"}}}),
}
SEEN: Final[tuple[tuple[str, ...], ...]] = ((), ("all",), ("some",), ("changed",), ("all", "some"))
NAMES: Final = st.text(alphabet="ab._", min_size=0, max_size=3)
TOOLS: Final = st.lists(st.tuples(NAMES, st.sampled_from(["", "texts"])), max_size=5)
URIS: Final = st.lists(st.sampled_from(["file:///a", "file:///b", "ui://c"]), max_size=2)
CHANGES: Final = st.lists(st.tuples(st.sampled_from("xyz"), TOOLS, URIS), min_size=1, max_size=5)


def listing(tools: list[tuple[str, str]], uris: list[str]) -> Listing:
    return Listing(
        tools=tuple({"name": name, "description": text, "inputSchema": {"type": "object"}} for name, text in tools),
        resources=tuple({"name": uri, "uri": uri} for uri in uris),
        prompts=tuple({"name": name} for name, _ in tools),
    )


class Place:
    """A catalog and the views on it, with or without somebody who prepares."""

    def __init__(self) -> None:
        self.holder = CatalogHolder(CatalogPolicy.of(Config()), clock=lambda: 1.0)
        self.views = Views(AGENTS)
        self.trust = Trust(None)
        self.ahead = Ahead(self.holder, self.trust, self.views, config=Config, instance="me")

    def prepare(self, upstream: str, listing: Listing) -> None:
        listings = {**self.holder.current.listings, upstream: listing}
        coming = done(self.holder.preparing(listings, self.trust.foreseen(Config(), listings)))
        if coming is not None:
            done(self.views.preparing(coming))

    def publish(self, upstream: str, listing: Listing) -> None:
        listings = {**self.holder.current.listings, upstream: listing}
        self.holder.update(listings, self.trust.policy(Config(), listings))

    def seen(self, *names: str) -> View:
        return self.views.of(self.holder.current, *names)


def told(view: View) -> Any:
    """All that a downstream can notice of a view."""
    names = [(name, entry.route, entry.named) for kind in Kind for name, entry in view.entries(kind).items()]
    aliases = [view.names(kind).aliases for kind in (Kind.TOOL, Kind.PROMPT)]
    return [view.listing(kind) for kind in Kind], names, aliases, view.upstreams, view.catalog.conflicts


@given(changes=CHANGES, missed=st.sets(st.integers(0, 4)))
def test_whether_somebody_prepared_makes_no_difference(
    changes: list[tuple[str, list[tuple[str, str]], list[str]]], missed: set[int]
) -> None:
    place, plain = Place(), Place()
    for number, (upstream, tools, uris) in enumerate(changes):
        before = [(place.seen(*names), plain.seen(*names)) for names in SEEN]
        for one in (view for pair in before for view in pair):
            one.listing(Kind.TOOL)
        place.prepare(upstream, listing(tools, uris))
        if number in missed:  # something else comes in between
            for each in (place, plain):
                each.publish("other", listing([("a", str(number))], []))
        assert [told(one) for one, _ in before] == [told(other) for _, other in before], "it showed before its time"
        for each in (place, plain):
            each.publish(upstream, listing(tools, uris))
        for names, (one, other) in zip(SEEN, before, strict=True):
            assert told(place.seen(*names)) == told(plain.seen(*names))
            assert changed_lists(one, place.seen(*names)) == changed_lists(other, plain.seen(*names))


async def test_what_was_prepared_is_what_is_published() -> None:
    place = Place()
    place.publish("x", listing([("a", ""), ("b", "")], []))
    view = place.seen("all")
    view.listing(Kind.TOOL)
    news = Listing(tools=(*place.holder.current.listings["x"].tools, {"name": "c", "inputSchema": {"type": "object"}}))
    await place.ahead.prepare("x", news)
    assert place.seen("all") is view
    place.publish("x", news)
    assert list(place.seen("all").entries(Kind.TOOL)) == ["a", "b", "c"]
    before, after = view.listing(Kind.TOOL), place.seen("all").listing(Kind.TOOL)
    assert all(one is other for one, other in zip(before, after[:2], strict=True)), "it was made again"


async def test_what_is_listed_as_before_is_what_is_known() -> None:
    sent: dict[str, Any] = {"tools": [{"name": "a"}, {"name": "b", "title": "B"}, {"no": "name"}, "odd"]}

    async def answer(method: str, params: Any) -> Any:
        del params
        return sent if method == "tools/list" else {"resources": {"uri": "file:///a"}, "ttlMs": 5}

    negotiated = Negotiated(Era.HANDSHAKE, "2025-11-25", {"tools": {}, "resources": {}})
    session = Session("x", ScriptedLink(answer), negotiated, SessionIncoming("x", lambda *_: None))
    first = await session.list_all()
    assert list(first.tools) == sent["tools"]
    assert len(first.resources) == 1, "what is no list is left out by the catalog, which says so"
    assert first.ttl_ms == 5
    assert await session.list_all(first) is first
    sent["tools"] = [{"name": "b", "title": "B"}, {"name": "a", "title": "A"}]
    second = await session.list_all(first)
    assert second.tools == ({"name": "b", "title": "B"}, {"name": "a", "title": "A"})
    assert second.tools[0] is first.tools[1]


async def test_others_run_while_a_long_listing_is_taken_in_and_prepared() -> None:
    place = Place()
    sent = [
        {"name": f"tool-{number}", "description": "d" * 200, "inputSchema": {"type": "object"}}
        for number in range(5000)
    ]

    async def answer(method: str, params: Any) -> Any:
        del method, params
        return {"tools": sent}

    negotiated = Negotiated(Era.HANDSHAKE, "2025-11-25", {"tools": {}})
    session = Session("x", ScriptedLink(answer), negotiated, SessionIncoming("x", lambda *_: None))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    place.seen("all")
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(others)
            found = await session.list_all()
            listed, turns = turns, 0
            await place.ahead.prepare("x", found)
            prepared, turns = turns, 0
            place.publish("x", found)
            tasks.cancel_scope.cancel()
    assert len(place.seen("all").entries(Kind.TOOL)) == 5000
    assert min(listed, prepared) > 15  # a turn of the loop takes a quarter of a millisecond of it
