"""``login`` and ``logout`` as people use them: real processes, a real authorization server, a script as the browser."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import anyio
import pytest
from anyio.streams.text import TextReceiveStream

from proxy.credentials.vault import Vault
from tests.support.authority import guarded, visit
from tests.support.logins import ends_in, slot
from tests.support.manifold import Home, serving

BROWSER = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as page:
    sys.stdout.write(page.read().decode())
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "browser.py").write_text(BROWSER)
    return Home(tmp_path)


def env(home: Home) -> dict[str, Any]:
    return {
        "BROWSER": f"{sys.executable} {home.folder / 'browser.py'} %s",
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",  # no test touches anybody's keyring
    }


def kept(home: Home) -> Path:
    return home.state / "mcp-manifold" / "credentials"


@asynccontextmanager
async def typing(home: Home, *arguments: str) -> AsyncIterator[tuple[Any, TextReceiveStream]]:
    """A command that somebody answers; its standard error is what it asks."""
    command = home.command(*arguments)
    async with await anyio.open_process(
        command, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=home.folder, env=home.env(**env(home))
    ) as process:
        assert process.stderr is not None
        yield process, TextReceiveStream(process.stderr)


async def page_of(said: TextReceiveStream) -> str:
    """The page that a command wants to have opened."""
    text = ""
    async for piece in said:
        text += piece
        if "paste" in text:
            break
    return next(word for word in text.split() if "/authorize?" in word)


async def test_a_person_logs_in_uses_it_and_logs_out(home: Home) -> None:
    async with guarded() as upstream:
        home.write({"up": upstream.config()})
        before = await home.run("check", **env(home))
        assert before.returncode == 1
        assert "mcp-manifold login up" in before.stdout

        done = await home.run("login", "up", **env(home))
        assert (done.returncode, f"Logged in to up at {upstream.authority.issuer}" in done.stdout) == (0, True), done

        shown = await home.run("login", "--status", **env(home))
        assert f"● up: logged in at {upstream.authority.issuer}, until" in shown.stdout
        called = await home.run("call", "mcp_up_whoami", **env(home))
        assert '"ada"' in called.stdout

        out = await home.run("logout", "up", **env(home))
        assert (out.returncode, len(upstream.authority.revoked)) == (0, 2)
        again = await home.run("login", "--status", **env(home))
        assert "✗ up: not logged in; run `mcp-manifold login up`" in again.stdout
        assert (await home.run("logout", "up", **env(home))).returncode == 1
        said = "".join(one.stdout + one.stderr for one in (before, done, shown, called, out, again))
        assert "access-" not in said
        assert "refresh-" not in said


async def test_nobody_but_the_owner_can_read_what_is_kept_and_no_token_stands_there_in_clear(home: Home) -> None:
    async with guarded() as upstream:
        home.write({"up": upstream.config()})
        assert (await home.run("login", "up", **env(home))).returncode == 0
        files = list(kept(home).iterdir())
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
        assert kept(home).stat().st_mode & 0o777 == 0o700
        content = b"".join(path.read_bytes() for path in files)
        assert [
            token
            for token in (*upstream.authority.tokens, *upstream.authority.refreshable)
            if token.encode() in content
        ] == []

        kept(home).chmod(0o755)
        complaint = await home.run("login", "--status", **env(home))
        assert "chmod 700" in complaint.stderr + complaint.stdout


async def test_without_a_browser_the_address_is_pasted_back(home: Home) -> None:
    async with guarded(hides=("device_authorization_endpoint",)) as upstream:
        home.write({"up": upstream.config()})
        with anyio.fail_after(20):
            async with typing(home, "login", "up", "--no-browser") as (process, said):
                await process.stdin.send((await visit(await page_of(said)) + "\n").encode())
                assert await process.wait() == 0
        assert upstream.authority.tokens


async def test_without_a_browser_a_device_login_is_used_where_there_is_one(home: Home) -> None:
    async with guarded() as upstream:
        home.write({"up": upstream.config()})
        done = await home.run("login", "up", "--no-browser", **env(home))
        assert done.returncode == 0
        assert "confirm the code WXYZ-1234" in done.stderr


async def test_a_manifold_that_runs_notices_a_login(home: Home) -> None:
    async with guarded() as upstream:
        home.write({"up": upstream.config()})
        async with serving(home, **env(home)) as running:
            await running.event("upstream.state", upstream="up", new="auth_required")
            assert (await home.run("login", "up", **env(home))).returncode == 0
            await running.event("upstream.state", upstream="up", new="ready")
            shown = await home.run("status", "--url", running.base, **env(home))
            assert "login until 20" in shown.stdout
            assert not any(token in shown.stdout + running.said for token in upstream.authority.tokens)


async def test_processes_that_start_at_once_renew_a_login_once(home: Home) -> None:
    async with guarded() as upstream:
        home.write({"up": upstream.config()})
        assert (await home.run("login", "up", **env(home))).returncode == 0
        at = slot(upstream)
        state = home.state / "mcp-manifold"
        ends_in(state, at, -10)
        answers: list[str] = []

        async def call() -> None:
            answers.append((await home.run("call", "mcp_up_whoami", **env(home))).stdout)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(call)
        assert [("ada" in answer) for answer in answers] == [True] * 3
        assert upstream.authority.refreshes == 1
        assert Vault(kept(home)).load(at) is not None


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["pu"], "There is no upstream 'pu'"),
        (["plain"], "is not oauth"),
        (["up", "--agent", "coder"], "per: agent"),
        (["up", "--agent", "coder", "--principal", "x"], "two different logins"),
    ],
)
async def test_a_login_that_makes_no_sense_is_explained(home: Home, arguments: list[str], what: str) -> None:
    home.write({"up": {"url": "http://127.0.0.1:1/mcp", "auth": "oauth"}, "plain": {"url": "http://127.0.0.1:1/mcp"}})
    done = await home.run("login", *arguments, **env(home))
    assert (done.returncode, what in done.stderr) == (1, True), done


async def test_a_login_that_is_refused_says_so(home: Home) -> None:
    async with guarded(sends_back={"code": None, "error": "access_denied"}) as upstream:
        home.write({"up": upstream.config()})
        done = await home.run("login", "up", **env(home))
        assert (done.returncode, "access_denied" in done.stderr) == (1, True), done
