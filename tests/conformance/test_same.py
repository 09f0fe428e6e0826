"""The same requests to the fixture itself and through Manifold: what comes back is the same, field by field."""

import pytest

from tests.conformance.cells import CELLS, NO_LANE, PREFIXED, Theatre
from tests.conformance.conftest import Direct
from tests.conformance.scripts import SCRIPTS, normal
from tests.conformance.wire import Client

ODD_NAMES = ("126-character tool name", "name outside SEP-986 (space)")


@pytest.mark.parametrize("theatre", CELLS + NO_LANE, ids=lambda cell: cell.id, indirect=True)
@pytest.mark.parametrize("name", SCRIPTS)
async def test_through_manifold_a_client_sees_the_same(
    theatre: Theatre, client: Client, baseline: Direct, name: str
) -> None:
    expected = await baseline.seen(name, theatre.cell)
    assert normal(await SCRIPTS[name](client)) == expected


@pytest.mark.parametrize("theatre", PREFIXED, ids=lambda cell: cell.id, indirect=True)
@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "call_odd_names"])
async def test_under_other_names_a_client_sees_the_same(
    theatre: Theatre, client: Client, baseline: Direct, name: str
) -> None:
    expected = await baseline.seen(name, theatre.cell)
    found = normal(await SCRIPTS[name](client))
    if name == "list_tools":
        # Two names cannot be exported by putting something before them; tests/unit/catalog looks at such names.
        expected, found = (
            [tool for tool in tools if tool["description"] not in ODD_NAMES] for tools in (expected, found)
        )
    assert found == expected
