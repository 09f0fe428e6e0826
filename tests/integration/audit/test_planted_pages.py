"""No page, list or report of a Manifold shows a secret of its configuration."""

from pathlib import Path

import aiohttp
import anyio

from tests.support.link_http import serve
from tests.support.manifold import Home, serving
from tests.support.planted import SECRET, VARIABLE
from tests.support.recording import speaking
from tests.support.scripted import crashing, upstream

FAILS = "import os, sys; sys.exit('no access for ' + os.environ['PLANTED_TOKEN'])"


async def test_pages_lists_and_reports_show_no_secret(tmp_path: Path) -> None:
    dying = {**crashing(""), "env": {}}
    dying["args"] = ["-S", "-c", FAILS]
    async with serve(speaking()) as site:
        named = f"{site.url}?token=${{env:{VARIABLE}}}"
        home = Home(tmp_path).write(
            {"a": upstream("a", "work"), "dying": dying, "remote": {"url": named, "grace": "10s"}},
            audit={"to": "audit.jsonl", "arguments": "keep"},
            log={"level": "debug", "access": "all"},
        )
        async with serving(home) as manifold, aiohttp.ClientSession() as http:
            with anyio.fail_after(40):
                await manifold.banner()
                await manifold.until(lambda: "no access for" in manifold.said)
                told = {}
                for path in ("/status.json", "/metrics", "/readyz", "/mcp", "/nowhere"):
                    async with http.get(manifold.base + path) as answer:
                        told[path] = await answer.text()
                reports = [
                    await home.run(*command)
                    for command in (("status", "--url", manifold.base), ("status", "--json", "--url", manifold.base))
                ]
        reports += [await home.run(*command) for command in (("check",), ("list",), ("call", "dying.work"))]
        assert "nothing-is-planted" not in str([one.headers for one in site.requests])
    assert "no access for •••" in told["/status.json"] or "no access for ***" in told["/status.json"]
    for place, text in (*told.items(), *((str(one.args), one.stdout + one.stderr) for one in reports)):
        assert SECRET not in text, place
    assert SECRET not in manifold.said
    assert SECRET not in (tmp_path / "audit.jsonl").read_text()
