"""Results of 50 MB that are within the limit arrive whole, and callers of other upstreams wait little.

Measured as in ``test_faults.py``: calm phases and phases beside the large results, in rounds of one run.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.chaos.steady import measure
from tests.chaos.test_faults import Fault, beside, child, site, told
from tests.support.faulty import BIG

LARGE: Final = {
    "stdio": child("big"),
    "http": site("big"),
    "http: as an event": site("big", events=True),
}


pytestmark = pytest.mark.usefixtures("first_core")


@pytest.mark.timeout(170)
@pytest.mark.parametrize("config", LARGE.values(), ids=LARGE)
async def test_a_result_of_50_mb_arrives_whole_and_costs_no_other(tmp_path: Path, config: object) -> None:
    large = Fault(config, says=(f"{BIG} characters",), at_once=1, within=30)  # type: ignore[arg-type]
    async with beside(tmp_path, large) as (one, other):
        measured = await measure(lambda: one.timed("mcp_healthy_work"), lambda: told(other, large))
    print(measured)
    assert measured.undisturbed, str(measured)
