"""Finding out which era an upstream speaks, with links that answer as servers do."""

from typing import Any

import anyio
import pytest

from proxy.config.model import EraChoice
from proxy.errors import ConnectFailed, Lost, ProtocolFault, Rejected, UpstreamError
from proxy.model import Era, Params
from proxy.upstream.negotiate import Negotiated, Offer, negotiate
from tests.support.scripted_link import Answer, ScriptedLink

DISCOVERED = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "instructions": "be kind"}
PIPE = pytest.mark.parametrize("remote", [True, False])


def server(**answers: Any) -> Answer:
    """Answers ``discover`` and ``initialize``: with a value, an error, or ``...`` for never."""

    async def answer(method: str, params: Params) -> Any:
        await anyio.lowlevel.checkpoint()
        given = answers.get(method.rpartition("/")[2], Rejected(-32601, "Method not found"))
        if given is ...:
            await anyio.sleep_forever()
        if isinstance(given, Exception):
            raise given
        return given(params) if callable(given) else given

    return answer


def hello(params: Params) -> Params:
    return {"protocolVersion": params["protocolVersion"], "capabilities": {}, "serverInfo": {"name": "old"}}


async def agreed(answer: Answer, *, remote: bool = True, **offer: Any) -> tuple[Negotiated, list[str]]:
    link = ScriptedLink(answer, attributes=remote)
    with anyio.fail_after(10):
        return await negotiate(link, Offer(**offer)), link.asked


@PIPE
async def test_a_modern_server_is_known_by_discovery_alone(remote: bool) -> None:
    found, asked = await agreed(server(discover=DISCOVERED), remote=remote)
    assert (found.era, found.version, found.instructions) == (Era.MODERN, "2026-07-28", "be kind")
    assert asked == ["server/discover"]


@PIPE
@pytest.mark.parametrize(
    "refusal",
    [
        Rejected(-32601, "Method not found"),
        Rejected(-32602, "Invalid request parameters"),
        Rejected(-32600, "not initialized"),
        ProtocolFault("HTTP 500"),
        {"unexpected": True},
        {"supportedVersions": ["2025-11-25"]},
        [],
    ],
)
async def test_whatever_an_old_server_says_to_discovery_it_is_initialized(remote: bool, refusal: Any) -> None:
    found, asked = await agreed(server(discover=refusal, initialize=hello), remote=remote)
    assert (found.era, found.version) == (Era.HANDSHAKE, "2025-11-25")
    assert asked == ["server/discover", "initialize"]


async def test_a_pipe_that_is_silent_on_discovery_is_initialized_beside_it() -> None:
    found, asked = await agreed(server(discover=..., initialize=hello), remote=False, patience=0)
    assert found.era is Era.HANDSHAKE
    assert asked == ["server/discover", "initialize"]


async def test_a_pipe_that_starts_late_may_still_be_modern() -> None:
    """Its answer to the probe counts although ``initialize`` is under way."""
    initialized = anyio.Event()

    async def answer(method: str, params: Params) -> Any:
        del params
        if method == "initialize":
            initialized.set()
            await anyio.sleep_forever()
        await initialized.wait()
        return DISCOVERED

    found, _ = await agreed(answer, remote=False, patience=0)
    assert found.era is Era.MODERN


@PIPE
@pytest.mark.parametrize("error", [ConnectFailed("refused"), Lost("it exited with code 1")])
async def test_a_server_that_is_not_there_is_not_initialized(remote: bool, error: UpstreamError) -> None:
    link = ScriptedLink(server(discover=error, initialize=hello), attributes=remote)
    with pytest.raises(type(error), match=error.message), anyio.fail_after(10):
        await negotiate(link, Offer())
    assert link.asked == ["server/discover"]


async def test_a_remembered_era_is_tried_first() -> None:
    _, asked = await agreed(server(initialize=hello), remembered=Era.HANDSHAKE)
    assert asked == ["initialize"]


async def test_an_upgraded_server_is_found_in_spite_of_the_remembered_era() -> None:
    found, asked = await agreed(server(discover=DISCOVERED), remembered=Era.HANDSHAKE)
    assert found.era is Era.MODERN
    assert asked == ["initialize", "server/discover"]


@pytest.mark.parametrize("choice", [EraChoice.HANDSHAKE, EraChoice.MODERN])
async def test_a_chosen_era_is_the_only_one_tried(choice: EraChoice) -> None:
    found, asked = await agreed(server(discover=DISCOVERED, initialize=hello), choice=choice)
    assert found.era.value == choice.value
    assert len(asked) == 1


async def test_a_server_that_is_not_modern_fails_a_modern_configuration_with_the_remedy() -> None:
    with pytest.raises(ProtocolFault) as failed:
        await agreed(server(initialize=hello), choice=EraChoice.MODERN)
    assert "does not speak 2026-07-28" in failed.value.text()
    assert "Remove `era: modern`" in failed.value.text()


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_every_handshake_revision_is_spoken(version: str) -> None:
    found, _ = await agreed(server(initialize={"protocolVersion": version, "capabilities": {}}))
    assert found.version == version


@pytest.mark.parametrize("answer", [{"protocolVersion": "1999-01-01"}, {}, [], None, "hello"])
async def test_an_answer_that_is_no_handshake_is_told(answer: Any) -> None:
    with pytest.raises(ProtocolFault, match="protocol version"):
        await agreed(server(initialize=answer))


@PIPE
async def test_a_server_that_refuses_both_is_told_by_its_own_words(remote: bool) -> None:
    with pytest.raises(Rejected, match="go away"):
        await agreed(server(initialize=Rejected(-32000, "go away")), remote=remote)


async def test_the_probe_says_nothing_of_the_downstream() -> None:
    told: list[Params] = []

    def note(params: Params) -> Params:
        told.append(params)
        return DISCOVERED

    await agreed(server(discover=note), told='{"sampling": {}}')
    assert told[0]["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {}


async def test_a_handshake_tells_the_capabilities_that_it_was_given() -> None:
    told: list[Params] = []

    def note(params: Params) -> Params:
        told.append(params)
        return hello(params)

    await agreed(server(initialize=note), told='{"sampling": {}}')
    assert told[0]["capabilities"] == {"sampling": {}}
    assert told[0]["clientInfo"]["name"] == "mcp-manifold"
