"""``mcp-manifold check --upstream``: the command's counterpart of ``test_connection``."""

from pathlib import Path

from tests.support import scripted
from tests.support.manifold import Home
from tests.support.store_peer import Peer, serving


async def test_a_server_that_works_is_shown_with_its_tools(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": scripted.upstream("a", "one", "two"), "gone": {"command": "not-there-at-all"}})
    done = await home.run("check", "--upstream", "a")
    assert done.returncode == 0, done.stderr
    assert "2 tools" in done.stdout
    assert [line.strip() for line in done.stdout.splitlines()[1:]] == ["one", "two"]


async def test_a_server_that_does_not_is_shown_with_its_cause(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": scripted.upstream("a", "one"), "gone": {"command": "not-there-at-all"}})
    done = await home.run("check", "--upstream", "gone")
    assert done.returncode == 1
    assert "the command not-there-at-all was not found" in done.stdout
    assert "connect-failed" in done.stdout


async def test_a_server_that_is_not_configured_is_tried_by_its_url(tmp_path: Path) -> None:
    async with serving(Peer("web").define("find")) as (web,):
        done = await Home(tmp_path).write({}).run("check", "--upstream", web.url)
    assert done.returncode == 0, done.stderr
    assert "1 tool (" in done.stdout


async def test_a_name_that_nobody_has_is_told_with_the_known_ones(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"web": scripted.upstream("web", "one")})
    done = await home.run("check", "--upstream", "wbe")
    assert done.returncode == 1
    assert "wbe" in done.stdout
    assert "web" in done.stdout.replace("wbe", "")
