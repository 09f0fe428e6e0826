"""Links are tried on both event loops: pipes and processes differ between them."""

from typing import Any

import pytest

from tests.support.link_peers import Heard


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def heard() -> Heard:
    return Heard()
