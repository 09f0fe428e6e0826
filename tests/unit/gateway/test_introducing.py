"""What can be said of Manifold before it is up."""

from pathlib import Path

from proxy.catalog.store import ListingStore
from proxy.config.load import load_data
from proxy.config.model import Config
from proxy.gateway.introducing import introducing
from proxy.model import Listing
from proxy.upstream.identity import identity_of

SERVERS = {"a": {"command": "a"}, "b": {"command": "b"}}


def config(**sections: object) -> Config:
    return load_data({"mcpServers": SERVERS, **sections}).config


def listed(state: Path, name: str, listing: Listing) -> None:
    assert not ListingStore(state / "listings").save(name, identity_of(config().upstreams[name]), listing, at=0.0)


def test_instructions_of_upstreams_are_left_to_who_knows_the_pins(tmp_path: Path) -> None:
    listed(tmp_path, "a", Listing(instructions="Trust me."))
    assert introducing(config(), None, tmp_path, "x") is None


def test_the_operators_instructions_stand_for_those_of_upstreams(tmp_path: Path) -> None:
    listed(tmp_path, "a", Listing(instructions="Trust me."))
    found = introducing(config(server={"instructions": "Be kind."}), None, tmp_path, "x")
    assert found is not None
    assert (found("initialize", "2025-11-25") or {})["instructions"] == "Be kind."


def test_instructions_of_an_upstream_that_the_agent_does_not_see_do_not_matter(tmp_path: Path) -> None:
    listed(tmp_path, "a", Listing(instructions="Trust me."))
    found = introducing(config(agents={"other": {"servers": ["b"]}}), "other", tmp_path, "x")
    assert found is not None
    assert "instructions" not in (found("initialize", "2025-11-25") or {})


def test_the_chain_names_what_stands_behind(tmp_path: Path) -> None:
    behind = {"experimental": {"mcp-manifold": {"chain": ["y", "z"]}}}
    listed(tmp_path, "a", Listing(capabilities=behind))
    found = introducing(config(), None, tmp_path, "x")
    assert found is not None
    assert (found("initialize", "2025-11-25") or {})["capabilities"]["experimental"]["mcp-manifold"]["chain"] == [
        "x",
        "y",
        "z",
    ]


def test_a_modern_revision_that_does_not_exist_is_left_to_the_real_door(tmp_path: Path) -> None:
    found = introducing(config(), None, tmp_path, "x")
    assert found is not None
    assert found("server/discover", "2099-01-01") is None
