"""Which agents apply: joined into one name, and apart again."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.agents.selection import joined, parts

NAMES = st.lists(st.one_of(st.none(), st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)), max_size=6)


@given(names=NAMES)
def test_what_is_joined_comes_apart_in_order_each_once(names: list[str | None]) -> None:
    assert list(parts(joined(names))) == list(dict.fromkeys(name for name in names if name is not None))


@given(first=NAMES, second=NAMES)
def test_what_is_joined_can_be_joined_again(first: list[str | None], second: list[str | None]) -> None:
    assert joined([joined(first), joined(second)]) == joined([*first, *second])


def test_nobody_is_the_store() -> None:
    assert joined([None]) is None
    assert joined([]) is None
    assert parts(None) == ()
