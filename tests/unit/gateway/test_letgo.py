"""Large results are freed step by step (proxy/gateway/letgo.py)."""

import anyio
import anyio.lowlevel
import pytest

from proxy.gateway.letgo import let_go


class Piece(bytes):
    """Notes when it is freed."""

    freed: list[int]

    def __del__(self) -> None:
        self.freed.append(int(self))


def pieces(many: int, freed: list[int]) -> list[bytes]:
    made = [Piece(b"%d" % number) for number in range(many)]
    for one in made:
        one.freed = freed
    return [*made]


async def test_the_pieces_of_a_large_result_are_freed_from_the_last_to_the_first_a_few_at_a_time() -> None:
    freed: list[int] = []
    let_go(pieces(40, freed))
    steps = {len(freed)}
    with anyio.fail_after(10):
        while len(freed) < 40:
            await anyio.lowlevel.checkpoint()
            steps.add(len(freed))
    assert len(steps) > 3
    assert [one // 8 for one in freed] == [one // 8 for one in reversed(range(40))]


@pytest.mark.parametrize("many", [2, 40])
async def test_who_keeps_the_list_keeps_all_of_it(many: int) -> None:
    freed: list[int] = []
    kept = pieces(many, freed)
    let_go(kept)
    done: list[int] = []
    other = pieces(40, done)
    let_go(other)
    del other
    with anyio.fail_after(10):
        while len(done) < 40:
            await anyio.lowlevel.checkpoint()
    assert (len(kept), freed) == (many, [])
