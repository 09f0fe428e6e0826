from hypothesis import given
from hypothesis import strategies as st

from proxy.catalog.aliases import Alias, Lifetime, carry

OLD, NEW = ("s", "old"), ("s", "new")
HOUR = Lifetime(now=100.0, ttl=60.0, limit=10)
NAMES = st.sampled_from("abcde")
KEYS = st.tuples(st.sampled_from("st"), st.sampled_from("xyz"))
TABLES = st.dictionaries(NAMES, KEYS)


def test_a_name_that_changed_becomes_an_alias() -> None:
    assert carry({}, {"a": OLD}, {"b": OLD}, HOUR) == {"a": Alias(OLD, 160.0)}


def test_a_name_that_stayed_is_no_alias() -> None:
    assert carry({"a": Alias(OLD, 160.0)}, {"a": OLD}, {"a": OLD}, HOUR) == {}


def test_what_has_gone_is_kept_in_mind() -> None:
    gone = carry({}, {"a": OLD}, {}, HOUR)
    assert carry(gone, {}, {"b": OLD}, HOUR) == {"a": Alias(OLD, 160.0)}


def test_an_alias_expires() -> None:
    aliases = {"a": Alias(OLD, 100.0), "b": Alias(OLD, 100.5)}
    assert carry(aliases, {}, {"c": OLD}, HOUR) == {"b": Alias(OLD, 100.5)}


def test_the_last_owner_of_a_name_counts() -> None:
    assert carry({"a": Alias(OLD, 150.0)}, {"a": NEW}, {"b": NEW}, HOUR) == {"a": Alias(NEW, 160.0)}


def test_a_name_with_a_new_owner_still_remembers_the_old_one() -> None:
    taken = carry({}, {"a": OLD}, {"a": NEW, "b": OLD}, HOUR)
    assert taken == {"a": Alias(OLD, 160.0)}


def test_of_too_many_aliases_the_oldest_go() -> None:
    aliases = {"old": Alias(OLD, 101.0), "older": Alias(OLD, 100.5)}
    assert carry(aliases, {"new": NEW}, {}, Lifetime(100.0, 60.0, 2)).keys() == {"new", "old"}


@given(TABLES, TABLES, TABLES, st.integers(0, 4))
def test_old_names_are_bounded_and_never_say_what_names_say_already(
    first: dict[str, tuple[str, str]], second: dict[str, tuple[str, str]], third: dict[str, tuple[str, str]], limit: int
) -> None:
    lifetime = Lifetime(0.0, 10.0, limit)
    aliases = carry(carry({}, first, second, lifetime), second, third, lifetime)
    assert len(aliases) <= limit
    assert all(third.get(name) != alias.target for name, alias in aliases.items())
