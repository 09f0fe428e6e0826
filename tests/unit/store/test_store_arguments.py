"""Arguments in every form become one plain object."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from proxy.errors import InvalidArguments
from proxy.store.arguments import kind_of, normalised

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)


class Question(BaseModel):
    words: str
    limit: int = 3


@pytest.mark.parametrize("nothing", [None, {}, "", "  ", b"", "null", "{}"])
def test_nothing_is_an_empty_object(nothing: Any) -> None:
    assert normalised(nothing) == {}


@given(OBJECTS)
def test_an_object_its_json_and_its_json_twice_mean_the_same(arguments: dict[str, Any]) -> None:
    text = json.dumps(arguments)
    assert normalised(arguments) == normalised(text) == normalised(text.encode()) == normalised(json.dumps(text))
    assert normalised(arguments) == arguments


def test_keywords_and_pydantic_objects_are_arguments_too() -> None:
    assert normalised(None, {"words": "x"}) == {"words": "x"}
    assert normalised('{"limit": 1}', {"words": "x"}) == {"limit": 1, "words": "x"}
    assert normalised(Question(words="x")) == {"words": "x", "limit": 3}


def test_what_is_sent_is_not_what_was_given() -> None:
    given_list = [1]
    made = normalised({"list": given_list})
    given_list.append(2)
    assert made == {"list": [1]}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("[1]", "a list"),
        ("7", "a whole number"),
        ("{not json", "not JSON"),
        (7, "a whole number"),
        ([("a", 1)], "a list"),
        ({"a": object()}, "values that JSON can hold"),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(wrong: Any, words: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        normalised(wrong)
    assert words in caught.value.message
    assert caught.value.hint


def test_an_argument_given_twice_is_refused_by_name() -> None:
    with pytest.raises(InvalidArguments, match="words: expected one value"):
        normalised({"words": "secret-1"}, {"words": "secret-2"})


@given(VALUES)
def test_the_kind_of_a_value_never_repeats_the_value(value: Any) -> None:
    assert kind_of(value) in {
        *("null", "true or false", "a whole number", "a number", "a text", "a list", "an object"),
    }
