"""What may be asked, and what counts as an answer."""

from typing import Any

import pytest

from proxy.bridge.questions import ELICIT, ROOTS, SAMPLE, key_for, permitted, usable

URL = {"mode": "url"}
TOOLS: dict[str, Any] = {"tools": []}


@pytest.mark.parametrize(
    ("method", "params", "capabilities", "may"),
    [
        (ELICIT, {}, {"elicitation": {}}, True),
        (ELICIT, {}, {"elicitation": {"form": {}}}, True),
        (ELICIT, {}, {"elicitation": {"url": {}}}, False),
        (ELICIT, URL, {"elicitation": {}}, False),
        (ELICIT, URL, {"elicitation": {"url": {}}}, True),
        (ELICIT, {}, {}, False),
        (SAMPLE, {}, {"sampling": {}}, True),
        (SAMPLE, TOOLS, {"sampling": {}}, False),
        (SAMPLE, TOOLS, {"sampling": {"tools": {}}}, True),
        (ROOTS, None, {"roots": {"listChanged": True}}, True),
        (ROOTS, None, {"roots": None}, False),
        ("something/else", None, {"something": {}}, False),
    ],
)
def test_only_what_was_declared_may_be_asked(
    method: str, params: Any, capabilities: dict[str, Any], *, may: bool
) -> None:
    assert permitted(method, params, capabilities) is may


@pytest.mark.parametrize(
    ("method", "answer", "good"),
    [
        (ELICIT, {"action": "decline"}, True),
        (ELICIT, {"action": "perhaps"}, False),
        (ELICIT, {"action": "accept", "content": []}, False),
        (SAMPLE, {"role": "assistant", "content": [{}]}, True),
        (SAMPLE, {"role": "assistant"}, False),
        (ROOTS, {"roots": []}, True),
        (ROOTS, {"roots": {}}, False),
        (ROOTS, "roots", False),
    ],
)
def test_an_answer_has_the_shape_of_its_question(method: str, answer: Any, *, good: bool) -> None:
    assert usable(method, answer) is good


def test_keys_say_what_is_asked_and_are_never_the_same() -> None:
    form: dict[str, Any] = {"requestedSchema": {"properties": {"first name": {}}}}
    taken: list[str] = []
    for method, params in ((ELICIT, form), (ELICIT, form), (ELICIT, URL), (SAMPLE, {}), (ROOTS, None), (ELICIT, {})):
        taken.append(key_for(method, params, taken))
    expected = ["user_first_name", "user_first_name_2", "user_visit", "model_message", "client_roots", "user_answer"]
    assert taken == expected
